import contextlib
import io
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from growmas.cli import main

GROWMAS = Path(sys.executable).with_name("growmas")
ROOT = Path(__file__).parents[2]
SMALL = ["stream.tasks=2", "stream.limit=20", "training.epochs=1"]


def growmas(*arguments, cwd=ROOT, code=0):
    """Run a command in this process: what it printed, or its errors where it fails."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["growmas", *map(str, arguments)])
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as end:
            main()
    assert (end.value.code or 0) == code, out.getvalue() + err.getvalue()
    return out.getvalue() if code == 0 else err.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    for name in ("one", "two"):
        config = ROOT / "configs" / "digits_smoke.yaml"
        growmas("run", config, *SMALL, f"name={name}", cwd=folder)
    return folder


def test_the_program_runs_and_its_mistakes_have_an_exit_code(folder):
    for words, code in ((["ls"], 0), (["show", "zzzzzz"], 2)):
        done = subprocess.run(
            [GROWMAS, *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_run_says_how_it_goes_in_plain_lines(folder):
    out = growmas("run", ROOT / "configs/digits_smoke.yaml", *SMALL, "name=three", cwd=folder)
    lines = out.splitlines()
    assert lines[0].startswith("task 1/2  0/1/2/3/4  accuracy 0.")
    assert lines[1].startswith("task 2/2")
    assert "\x1b" not in out
    assert "growmas show runs/three" in lines[-1]


def test_show_by_name_and_by_path(folder):
    assert growmas("show", "one", cwd=folder) == growmas("show", "runs/one", cwd=folder)
    data = json.loads(growmas("show", "one", "--json", cwd=folder))
    assert data


def test_show_at_a_width_and_in_ascii(folder):
    out = growmas("show", "one", "--width", 60, "--ascii", cwd=folder)
    assert max(map(len, out.splitlines())) <= 60
    assert out.isascii()


def test_compare_and_ls(folder):
    assert {"one", "two"} <= set(growmas("compare", "one", "two", cwd=folder).split())
    listed = json.loads(growmas("ls", "--json", cwd=folder))
    assert {"one", "two"} <= {run["name"] for run in listed}


def test_doctor_finds_all_here():
    out = growmas("doctor")
    assert "missing" not in out
    assert "torch-pruning" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml"),
        (["show", "on"], "did you mean 'one'?"),
        (["show", "zzzzzz"], "growmas ls lists the runs there are"),
        (["compare", "one", "tow"], "did you mean 'two'?"),
        (["ls", "nowhere"], "there is no folder nowhere"),
        (["show", "."], "is not a run directory"),
        (["doctor", "."], "is not a run directory: it has none of config.yaml"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(folder, arguments, message):
    error = growmas(*arguments, cwd=folder, code=2)
    assert message in error
    assert "Traceback" not in error


def test_all_mistakes_of_a_config_at_once(folder):
    error = growmas(
        "run", ROOT / "configs/digits_smoke.yaml", "model.hiden=[3]", "training.epochs=-1",
        cwd=folder, code=2,
    )  # fmt: skip
    assert "model.hiden" in error
    assert 'did you mean "hidden"' in error or "hidden" in error
    assert "training.epochs" in error


def test_an_existing_run_is_not_touched(folder):
    before = (folder / "runs/one/metrics.json").read_text()
    error = growmas(
        "run", ROOT / "configs/digits_smoke.yaml", *SMALL, "name=one", cwd=folder, code=2
    )
    assert "runs/one exists" in error
    assert (folder / "runs/one/metrics.json").read_text() == before


def test_a_stream_that_cannot_be_made_leaves_no_directory(folder):
    error = growmas(
        "run", ROOT / "configs/digits_smoke.yaml", "stream.tasks=3", "name=four", cwd=folder, code=2
    )
    assert "tasks must be one of 1, 2, 5, 10" in error
    assert not (folder / "runs/four").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["show", "one"], ["compare", "one"], ["ls"]])
def test_reading_and_help_never_import_torch(folder, arguments):
    code = (
        "import sys\n"
        f"sys.argv = ['growmas', *{arguments!r}]\n"
        "from growmas.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "loaded = {'torch', 'networkx'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)


def test_the_list_of_commands_is_not_cut_off():
    listed = growmas("--help").split("Commands:")[1]
    assert "doctor" in listed
    assert "..." not in listed


def test_a_full_disk_is_told_from_a_run_that_failed(folder):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [GROWMAS, "show", "one"], cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: No space left on device: the output is not complete")


def test_an_interrupt_is_answered(monkeypatch, capsys, tmp_path):
    def interrupted(folder, output, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr("growmas.cli.reading.list_folder", interrupted)
    monkeypatch.setattr(sys, "argv", ["growmas", "ls", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert capsys.readouterr().err.startswith("error: interrupted; everything reported as done is")
