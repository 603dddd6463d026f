"""The way each case of tests/cases.py is measured: by a rule, or by the fallback."""

from collections.abc import Callable
from typing import Any

import pytest
from cases import CANCELLING, IMPORTANCE, Case

from growmas import mas_importance
from growmas.importance import exact

FALLBACK: dict[str, set[str]] = {
    "function-of-parameter": {"raw", "scale"},
    "branching": {"up.weight", "up.bias", "down.weight", "down.bias"},
    "recurrent": {
        "cell.weight_ih_l0", "cell.weight_hh_l0", "cell.bias_ih_l0", "cell.bias_hh_l0",
    },
    "idle-layer": {"idle.weight", "idle.bias", "wasted.weight", "wasted.bias"},
    "frozen-backbone": {
        "features.0.weight", "features.0.bias", "features.2.weight", "features.2.bias",
    },
}  # fmt: skip
"""Parameters without a rule; every other parameter of every case has one."""

Spy = Callable[[], set[str]]


@pytest.fixture
def fallback(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the parameters that the fallback is asked for."""
    asked: set[str] = set()
    original = exact.absolute_sums_by_sample

    def spy(measurement: Any, parameters: dict[str, Any], *rest: Any) -> Any:
        asked.update(parameters)
        return original(measurement, parameters, *rest)

    monkeypatch.setattr(exact, "absolute_sums_by_sample", spy)
    return asked


@pytest.mark.parametrize("case", [*IMPORTANCE, *CANCELLING], ids=lambda case: case.name)
def test_a_rule_that_is_lost_fails_here(case: Case, fallback: set[str]) -> None:
    mas_importance(case.model(), [case.inputs(2)])
    assert fallback == FALLBACK.get(case.name, set())


def test_the_table_names_cases_and_parameters_that_exist() -> None:
    names = {case.name: dict(case.model().named_parameters()) for case in IMPORTANCE}
    for case, parameters in FALLBACK.items():
        assert parameters <= names[case].keys()
