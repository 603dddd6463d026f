import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "history"))  # for its fake structure

from fake_structure import FakeStructure
from node_link import read_node_link

from growmas.cli import exporting
from growmas.errors import GrowmasError
from growmas.history import TopologyTracker

OPTIONS = {"graph": None, "table": None, "format": None, "task": None, "group": None, "out": None}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    structure = FakeStructure({"fc1": 4, "fc2": 3})
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        tracker.snapshot("a", metrics={"accuracy": 0.9})
        structure.edit(grow={"fc1": 2})
        tracker.snapshot("b")
    return tmp_path / "run.db"


def export(run: Path, **options: object) -> None:
    exporting.export(str(run), run.parent, **{**OPTIONS, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["net.json", "net.graphml", "net.dot", "net.gv", "net.mmd", "net"])
def test_the_name_of_the_file_tells_the_format(run: Path, name: str) -> None:
    export(run, graph="architecture", out=run.with_name(name))
    text = run.with_name(name).read_text()
    starts = {".json": "{", "": "{", ".graphml": "<graphml", ".mmd": "flowchart"}
    assert text.startswith(starts.get(Path(name).suffix, "digraph"))


def test_a_task_and_a_group_can_be_chosen(run: Path) -> None:
    out = run.with_name("out.json")
    for task, width in (("a", 4), ("1", 6)):
        export(run, graph="architecture", task=task, out=out)
        graph = read_node_link(json.loads(out.read_text()))
        assert graph.nodes["fc1"]["width"] == width
    export(run, graph="lineage", group="fc2", out=out)
    assert len(json.loads(out.read_text())["nodes"]) == 3


def test_without_a_file_it_is_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(run, table="metrics")
    assert capsys.readouterr().out == "task,metric,value\na,accuracy,0.9\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "say what to export"),
        ({"graph": "lineage", "table": "units"}, "say what to export"),
        ({"graph": "network"}, "expected one of architecture, lineage"),
        ({"graph": "architecture", "format": "png"}, "'json', 'graphml', 'dot', 'mermaid'"),
        ({"graph": "architecture", "task": "c"}, "no task 'c'; it has: a, b"),
        ({"graph": "architecture", "group": "fc1"}, "--group has no effect with --graph"),
        ({"graph": "lineage", "task": "a"}, "--task has no effect with --graph lineage"),
        ({"graph": "lineage", "group": "fc"}, "no group 'fc'; did you mean 'fc"),
        ({"table": "unit"}, "expected one of 'units'"),
        ({"table": "units", "format": "xlsx"}, "csv or parquet"),
        ({"table": "units", "format": "parquet"}, "name a file with -o"),
        ({"table": "units", "task": "a"}, "--task has no effect with --table"),
    ],
)
def test_mistakes_are_one_message(run: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(GrowmasError, match=message):
        export(run, **options)


def test_the_command_and_a_folder_that_is_not_there(run: Path) -> None:
    program = [sys.executable, "-c", "from growmas.cli import main; main()", "export", str(run)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for arguments, code, words in (
        (["--graph", "architecture", "--format", "mermaid"], 0, "flowchart TD"),
        (
            ["--table", "units", "-o", str(run.parent / "no" / "x.csv")],
            2,
            f"error: {run.parent}/no/x.csv could not",
        ),
    ):
        done = subprocess.run(
            [*program, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code
        assert (done.stdout or done.stderr).startswith(words)
