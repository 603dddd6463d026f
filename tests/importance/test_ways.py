"""The way each case of tests/cases.py is measured: by a rule, or by the fallback."""

from collections.abc import Callable
from typing import Any

import pytest
from cases import CANCELLING, IMPORTANCE, Case

from growmas import mas_importance
from growmas.importance.fallback import Fallback

FALLBACK: dict[str, set[str]] = {
    "function-of-parameter": {"raw", "scale"},
}  # fmt: skip
"""Parameters without a rule; every other parameter of every case has one."""

Spy = Callable[[], set[str]]


@pytest.fixture
def fallback(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the parameters that the fallback is asked for."""
    asked: set[str] = set()
    original = Fallback.sums

    def spy(self: Fallback, parameters: dict[str, Any], *rest: Any) -> Any:
        asked.update(parameters)
        return original(self, parameters, *rest)

    monkeypatch.setattr(Fallback, "sums", spy)
    return asked


@pytest.mark.parametrize("case", [*IMPORTANCE, *CANCELLING], ids=lambda case: case.name)
@pytest.mark.parametrize("samples", [1, 2, 9])
def test_a_rule_that_is_lost_fails_here(case: Case, samples: int, fallback: set[str]) -> None:
    mas_importance(case.model(), [case.inputs(samples)])
    assert fallback == FALLBACK.get(case.name, set())


def test_the_table_names_cases_and_parameters_that_exist() -> None:
    names = {case.name: dict(case.model().named_parameters()) for case in IMPORTANCE}
    for case, parameters in FALLBACK.items():
        assert parameters <= names[case].keys()
