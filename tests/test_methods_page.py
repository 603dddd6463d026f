"""docs/methods.md: every fact of its table, against the records and against runs."""

import re
from pathlib import Path
from typing import get_args

import pytest

import growmas as gm
from growmas.config import load_config
from growmas.config.baselines import SCENARIOS
from growmas.config.methods import TASK_FREE, MethodConfig
from growmas.experiment import run_experiment

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
RECORDS = {
    get_args(record.model_fields["kind"].annotation)[0]: record for record in get_args(MethodConfig)
}
SETTINGS = {
    "er": ", memory: 50",
    "derpp": ", memory: 50",
    "icarl": ", memory: 60",
    "ranpac": ", projections: 40",
    "slda": ", strength: 0.1",
    "gaussian": ", dimensions: 64",
}
VALUES = {"I": 64, "T": 5, "K": 10, "M": 50, "U": 12}


def rows() -> dict[str, list[str]]:
    """Cells of the row of each kind."""
    table = PAGE.read_text("utf-8").partition("| kind |")[2].partition("\n\n")[0]
    found = {}
    for line in table.splitlines()[2:]:
        kind, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
        found[kind.strip("` ")] = cells
    return found


def test_the_table_has_every_method_but_ours_and_yours() -> None:
    assert {*rows()} == {*RECORDS} - {"growmas", "python"}


@pytest.mark.parametrize("kind", sorted({*RECORDS} - {"growmas", "python"}))
def test_a_row_is_what_the_records_say(kind: str) -> None:
    public, scenarios, keys, _ = rows()[kind]
    free = ("task_free",) if kind in TASK_FREE else ()
    fitting = SCENARIOS.get(kind, (("task", "domain", "class"), ""))[0]
    assert tuple(scenarios.split(", ")) == (*fitting, *free)
    defaults = {
        name: "null" if field.default is None else str(field.default)
        for name, field in RECORDS[kind].model_fields.items()
        if name != "kind"
    }
    defaults = {n: "0.0001" if v == "0.0001" or v == "1e-04" else v for n, v in defaults.items()}
    assert keys == ", ".join(f"{name} {default}" for name, default in defaults.items())
    if public:
        assert issubclass(getattr(gm, public.strip("`")), gm.Method)


@pytest.mark.parametrize("kind", sorted({*RECORDS} - {"growmas", "python"}))
def test_numbers_kept_are_as_the_formula_says(tmp_path: Path, kind: str) -> None:
    scenario = rows()[kind][1].split(", ")[0]
    path = tmp_path / "small.yaml"
    path.write_text(
        "name: small\n"
        f"stream: {{kind: split, source: digits, tasks: 5, scenario: {scenario}, limit: 30}}\n"
        "model: {kind: mlp, hidden: [12]}\n"
        f"method: {{kind: {kind}{SETTINGS.get(kind, '')}}}\n"
        "training: {epochs: 1, learning_rate: 0.01, batch_size: 32}\n",
        encoding="utf-8",
    )
    result = run_experiment(load_config(path), tmp_path / "run")
    trunk = 12 * 65
    heads = 5 * 2 * 13 if scenario == "task" else 10 * 13
    values = dict(VALUES, N=300, C=2 if scenario == "task" else 10, W=12 * 64)
    values["P"] = 5 * (trunk + 26) if kind == "separate" else trunk + heads
    values["D"] = 40 if kind == "ranpac" else 64
    if kind == "icarl":
        values["M"] = 60
    formula = rows()[kind][3]
    formula = re.sub(r"(?<=[\dA-Z)])(?=[A-Z(])", "*", formula)
    assert result.numbers_kept == pytest.approx(eval(formula, values), abs=0.5)
