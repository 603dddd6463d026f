"""The commands that show a history, as a person types them, also wrongly."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

# For histories made without a network.
sys.path.append(str(Path(__file__).parents[1] / "terminal"))
sys.path.append(str(Path(__file__).parents[1] / "history"))

from histories import write_lives, write_residual

from growmas.cli import main

COMMANDS = {
    "show": [],
    "log": [],
    "diff": ["0", "5"],
    "unit": ["features.0#3"],
    "lifelines": [],
    "survival": [],
    "graph": [],
    "importance": [],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with runs/one, runs/two and a history of somebody's own loop, mine.db."""
    folder = tmp_path_factory.mktemp("views")
    write_lives(folder / "runs" / "one" / "history.db")
    write_residual(folder / "runs" / "two" / "history.db")
    shutil.copy(folder / "runs" / "one" / "history.db", folder / "mine.db")
    return folder


@pytest.fixture
def growmas(folder, monkeypatch, capsys):
    """Runs a command in the folder and gives what it printed; the exit code must be `code`."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["growmas", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        assert (end.value.code or 0) == code, printed.out + printed.err
        return printed.out if code == 0 else printed.err

    return call


@pytest.mark.parametrize(
    ("command", "explained", "kept"),
    [
        ("show", "Below a name: units alive / ever", ""),
        ("diff", "units born and pruned in between are left out", "born #"),
        ("unit", "Of the mean:", ""),
        ("importance", "Free: units below 10%", ""),
        ("survival", "", "alive of"),
    ],
)
def test_a_table_is_explained_on_demand(growmas, command, explained, kept):
    arguments = [command, "one", *COMMANDS[command]]
    short, whole = growmas(*arguments), growmas(*arguments, "--explain")
    assert growmas(*arguments, "--no-explain") == short
    assert explained in whole
    assert not explained or explained not in short
    assert kept in short
    lines = iter(whole.splitlines())
    assert all(line in lines for line in short.splitlines())  # nothing else differs
    assert growmas(*arguments, "--json", "--explain") == growmas(*arguments, "--json")


@pytest.mark.parametrize("command", ["show", "graph", "importance"])
def test_only_one_group(growmas, command):
    whole, one = (growmas(command, "one", *more) for more in ([], ["--group", "blocks.1.mlp.fc1"]))
    assert "features.0" in whole
    assert "fc1" in one
    assert "all units" not in one
    if command != "graph":  # it also shows the layers next to the group
        assert "features.0" not in one
    assert "has no group 'fx'" in growmas(command, "one", "--group", "fx", code=2)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_view_takes_a_run_its_name_or_the_file(growmas, command):
    rest = COMMANDS[command]
    text = growmas(command, "one", *rest)
    assert text == growmas(command, "runs/one", *rest)
    assert text == growmas(command, "mine.db", *rest)
    assert text == growmas(command, "runs/one/history.db", *rest)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_view_fits_a_pipe_in_plain_text(growmas, command):
    for width in (40, 60, 80, 120):
        text = growmas(command, "one", *COMMANDS[command], "--width", width, "--ascii")
        assert max(map(len, text.splitlines())) <= width
        assert text.isascii()
        assert "\x1b" not in text
        assert not any(line.endswith(" ") for line in text.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_view_has_its_data_and_a_picture(growmas, folder, command):
    rest = [*COMMANDS[command], "--svg", folder / "view.svg"]
    assert json.loads(growmas(command, "one", *rest, "--json"))
    picture = (folder / "view.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg ")
    assert f"growmas&#160;{command}&#160;one" in picture
    assert "http" not in picture.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_options_narrow_what_is_shown(growmas):
    assert "blocks.1.mlp.fc1" not in growmas("log", "one", "--group", "features.0")
    assert "permutation 2" not in growmas("log", "one", "--task", "permutation 3")
    assert "… 6 older edits: -n 0 for all" in growmas("log", "one", "-n", 2)
    assert "older" not in growmas("log", "one", "-n", 0)
    assert growmas("log", "one", "--reverse").startswith("● ●  began")
    assert "blocks.1.mlp.fc1" not in growmas("lifelines", "one", "--group", "features.0")
    assert growmas("lifelines", "one", "--all").count("\n    1  #") == 24 + 16
    assert "24 ever" in growmas("survival", "one", "--group", "features.0")
    assert "After permutation 1" in growmas("graph", "one", "--task", 0)


def test_diff_of_two_runs(growmas):
    text = growmas("diff", "one", "two", "--ascii")
    assert re.search(r"features\.0 +18 #+ +\+12 -6 +\.", text)
    assert re.search(r"stem +\. +8 ", text)
    data = json.loads(growmas("diff", "one", "two", "--json"))
    assert data["groups"]["stem"][0] is None
    assert data["tasks"] == [7, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "on"], "there is no run 'on'; did you mean 'one'?"),
        (["show", "runs"], "runs is not a run directory: it has no history.db"),
        (["log", "text.txt"], "text.txt is not a topology history"),
        (["log", "other.db"], "other.db is not a topology history"),
        (["log", "newer.db"], "newer.db has schema version 99"),
        (["log", "one", "--task", "permutation"], "did you mean 'permutation 1'?"),
        (["log", "one", "--group", "features"], "did you mean 'features.0'?"),
        (["diff", "one", "0", "7"], "has no task '7'"),
        (["diff", "one", "permutation 2"], "growmas diff RUN TASK TASK"),
        (["unit", "one", "features.0"], "does not name a unit: write GROUP#ID"),
        (["unit", "one", "features.0#24"], "unit 24 does not exist in group"),
        (["unit", "one", "features0#2"], "did you mean 'features.0'?"),
        (["lifelines", "one", "--group", "x"], "has no group 'x'"),
        (["survival", "one", "--group", "x"], "has no group 'x'"),
        (["graph", "one", "--task", "-9"], "has no task '-9'"),
        (["importance", "two"], "give snapshots omega"),
        (["show", "one", "--svg", "nowhere/x.svg"], "nowhere/x.svg"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(growmas, folder, arguments, message):
    (folder / "text.txt").write_text("not a database, but long enough to be one" * 20)
    for name, version in (("other.db", 0), ("newer.db", 99)):
        with sqlite3.connect(folder / name) as connection:
            connection.execute(f"PRAGMA user_version = {version}")
            if version:
                connection.execute("PRAGMA application_id = 0x67726D73")
    error = growmas(*arguments, code=2)
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_no_colour_when_nobody_wants_it(folder):
    code = "import sys; from growmas.cli import main; sys.argv = {!r}; main()"
    program = code.format(["growmas", "show", "one"])
    environment = {"FORCE_COLOR": "1", "PATH": "", "TERM": "xterm-256color"}
    for extra, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, capture_output=True, check=True, text=True,
            env={**environment, **extra, "PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        assert ("\x1b[32m" in done.stdout) is coloured


def test_no_view_imports_torch_or_networkx_and_help_not_even_rich(folder):
    calls = [["--help"], *([command, "one", *rest] for command, rest in COMMANDS.items())]
    code = (
        "import sys\n"
        "from growmas.cli import main\n"
        f"for arguments in {calls!r}:\n"
        "    sys.argv = ['growmas', *arguments]\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n        assert not end.code, arguments\n"
        "    heavy = {'torch', 'networkx', 'numpy'}\n"
        "    heavy |= {'rich', 'pydantic', 'sqlite3'} if arguments == ['--help'] else set()\n"
        "    assert not heavy & set(sys.modules), (arguments, heavy & set(sys.modules))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)


def test_the_page_of_screens_has_every_view_80_columns_wide():
    text = (Path(__file__).parents[2] / "docs" / "terminal.md").read_text(encoding="utf-8")
    screens = re.findall(r"```console\n\$ growmas (\w+) .*\n([^`]+)```", text)
    assert {command for command, _ in screens} == {*COMMANDS}
    assert max(len(line) for _, screen in screens for line in screen.splitlines()) <= 80


def test_a_picture_that_has_no_room_leaves_the_one_that_was_there(growmas, folder):
    picture = folder / "kept.svg"
    picture.write_text("what was there")
    growmas("show", "one", "--svg", folder / "runs", code=2)
    (folder / ".kept.svg.new").mkdir()  # in its way
    error = growmas("show", "one", "--svg", picture, code=2)
    assert "kept.svg could not be written" in error
    assert picture.read_text() == "what was there"
    assert growmas("show", "one", "--svg", "/dev/null")
    assert not Path("/dev/null").is_file()
