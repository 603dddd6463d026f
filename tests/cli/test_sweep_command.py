"""`growmas sweep` and `growmas configs` from the outside."""

import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

from growmas.cli import main
from growmas.config import bundled_configs, load_config
from growmas.errors import ConfigError

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
sys.path.append(str(ROOT / "tests" / "sweep"))  # for its fake child


@pytest.fixture
def growmas(monkeypatch, capsys, tmp_path):
    """Run a command in a folder of its own: its exit code, and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("growmas.sweep.work._CHILD", "fake_child")

    def growmas(*arguments):
        monkeypatch.setattr(sys, "argv", ["growmas", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return growmas


def test_a_sweep_prints_a_table_and_its_repetition_the_same(growmas):
    code, table, progress = growmas("sweep", "digits_smoke", "seed=1,2", "method.strength=0.1,1")
    assert code == 0
    assert "0.1          2  74.2 ± 0.4" in table
    assert len(progress.splitlines()) == 5
    assert progress.splitlines()[-1].endswith("growmas compare runs/digits-smoke-sweep")
    code, again, progress = growmas("sweep", "digits_smoke", "seed=1,2", "method.strength=0.1,1")
    assert (code, again, len(progress.splitlines())) == (0, table, 1)
    assert "74.2" in growmas("compare", "digits-smoke-sweep")[1]
    code, out, _ = growmas("compare", "digits-smoke-sweep", "--json")
    assert json.loads(out) == json.loads(Path("runs/digits-smoke-sweep/sweep.json").read_text())


def test_json_is_all_that_a_sweep_prints_then(growmas):
    code, out, _ = growmas("sweep", "digits_smoke", "seed=1,2", "--json", "--out", "here")
    assert code == 0
    assert [run["seed"] for run in json.loads(out)["runs"]] == [1, 2]
    code, out, _ = growmas(
        "sweep", "digits_smoke", "seed=2,3", "--json", "--out", "here", "--dry-run"
    )
    assert [(run["directory"], run["state"]) for run in json.loads(out)] == [
        ("here/seed=2", "finished"), ("here/seed=3", "new"),
    ]  # fmt: skip


def test_a_run_that_fails_is_named_at_the_end_and_the_exit_code_is_1(growmas):
    code, table, told = growmas("sweep", "digits_smoke", "seed=1,7", "--jobs", 2)
    assert code == 1
    assert "1/2" in table
    assert "failed: seed=7: there is no such luck\nand no other\n" in told
    assert "the same command tries these again" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits_smoke"], "such as seed=1..5"),
        (["digits_smoke", "seed="], "override seed=: expected a value before and after"),
        (["digits_smoke", "sed=1,2"], 'override sed=1,2: sed: unknown key; did you mean "seed"?'),
        (["digits_smoke", "seed=1", "seed=2"], "seed is given twice"),
        (["digits_smoke", "seed=1", "--jobs", "0"], "Invalid value for '--jobs'"),
        (["digits_smoke", "seed=1", "--out", "file"], "file is a file: name a folder"),
        (["digit_smoke", "seed=1"], 'there is no such file; did you mean "digits_smoke"?'),
    ],
)
def test_a_mistake_is_one_message_and_nothing_is_begun(growmas, arguments, message):
    Path("file").touch()
    code, out, told = growmas("sweep", *arguments)
    assert (code, out) == (2, "")
    assert message in told
    assert "Traceback" not in told
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_a_search_prints_its_trials_and_its_report(growmas):
    pytest.importorskip("optuna")
    tune = "tune={keys: {training.learning_rate: [0.1, 0.01]}, trials: 2, seeds: [1, 2]}"
    code, out, _ = growmas("sweep", "digits_smoke", tune, "--dry-run")
    assert (code, " ".join(out.split())) == (
        0,
        "in runs/digits-smoke-tuned: 2 trials of training.learning_rate on seed 0, then the best "
        "on seeds 1, 2; nothing was started",
    )
    code, out, told = growmas("sweep", "digits_smoke", tune, "--jobs", 2)
    assert code == 0
    assert out.split("\n\n")[0].splitlines()[2].split()[0] in ("0.1", "0.01")
    assert "validation" in out
    assert "ACC" in out
    assert "best of 2 trials: training.learning_rate=" in told
    code, out, _ = growmas("sweep", "digits_smoke", tune, "--json")
    data = json.loads(out)
    assert [run["seed"] for run in data["runs"]] == [1, 2]
    assert data["best"]["validation"] == max(trial["validation"] for trial in data["trials"])
    code, _, told = growmas("sweep", "digits_smoke", tune, "--shard", "1/2")
    assert (code, "a search cannot be split into shards" in told) == (2, True)


def test_an_interrupt_says_that_the_sweep_can_go_on(growmas, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("growmas.cli.sweeping.run_sweep", interrupted)
    code, _, told = growmas("sweep", "digits_smoke", "seed=1")
    assert code == 130
    assert told.startswith("the same command continues where this one stopped\nerror: interrupted")


def test_runs_of_one_name_are_compared_by_how_they_were_asked_for(growmas):
    growmas("sweep", "digits_smoke", "seed=1,2", "--out", "s")
    _, out, _ = growmas("compare", "s/seed=1", "s/seed=2", "--json")
    assert [run["name"] for run in json.loads(out)["runs"]] == ["s/seed=1", "s/seed=2"]
    _, both, _ = growmas("compare", "s", "s/seed=1")
    assert both == growmas("compare", "s")[1]
    _, out, _ = growmas("ls", "s", "--json")
    assert [run["directory"] for run in json.loads(out)] == ["s/seed=1", "s/seed=2"]


def test_configs_are_listed_with_what_their_headers_say(growmas):
    code, out, _ = growmas("configs", "--json")
    listed = json.loads(out)
    assert code == 0
    assert [config["name"] for config in listed] == sorted(p.stem for p in CONFIGS.glob("*.yaml"))
    for config in listed:
        assert config["shows"], config["name"]
        assert "second" in config["run_time"] or config["run_time"].startswith("not run here")
        assert "#" not in config["shows"]
    smoke = next(config for config in listed if config["name"] == "digits_smoke")
    assert smoke["shows"] == "growing, pruning and views within seconds"
    assert smoke["run_time"] == "2 seconds on one core"
    _, out, _ = growmas("configs", "--width", 100)
    assert all(config["name"] in out for config in listed)


def test_a_config_is_printed_as_it_is(growmas):
    text = (CONFIGS / "mnist5k_split_mas.yaml").read_text(encoding="utf-8")
    assert growmas("configs", "mnist5k_split_mas") == (0, text, "")
    assert growmas("configs", "mnist5k_split_mas.yaml") == (0, text, "")
    _, out, _ = growmas("configs", "mnist5k_split_mas", "--json")
    assert json.loads(out)["text"] == text
    code, out, told = growmas("configs", "mnist5k_split_mass")
    assert (code, out) == (2, "")
    assert told.startswith('error: there is no bundled config "mnist5k_split_mass"; did you mean "')


def test_a_file_of_that_name_comes_before_the_bundled_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("digits_smoke").seed == 0
    text = (CONFIGS / "digits_smoke.yaml").read_text(encoding="utf-8")
    Path("digits_smoke").mkdir()  # such as a run directory
    assert load_config("digits_smoke").seed == 0
    Path("digits_smoke").rmdir()
    Path("digits_smoke").write_text(text.replace("seed: 0", "seed: 5"), encoding="utf-8")
    assert load_config("digits_smoke").seed == 5
    with pytest.raises(ConfigError, match='no such file; did you mean "mnist5k_split_mas"'):
        load_config("mnist5k_split_mas.yaml")  # a file was meant, and it is not here


@pytest.mark.parametrize("place", ["files", "configs"])
def test_configs_are_found_in_a_wheel_and_in_a_checkout(tmp_path, monkeypatch, place):
    (tmp_path / place).mkdir()
    (tmp_path / place / "mine.yaml").write_text(
        "# One.\n#\n# Shows:    a\n#           b\nname: x\n"
    )
    places = (tmp_path / "files", tmp_path / "configs")
    monkeypatch.setattr("growmas.config.bundled._PLACES", places)
    (config,) = bundled_configs()
    assert (config.name, config.shows, config.run_time) == ("mine", "a b", "")


def test_the_wheel_has_the_configs_where_they_are_looked_for(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"configs": "growmas/config/files"}
    if find_spec("hatchling") is None:
        return
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.whl")
    with ZipFile(path) as built:
        for file in CONFIGS.glob("*.yaml"):
            assert built.read(f"growmas/config/files/{file.name}") == file.read_bytes()


def test_a_folder_without_runs_says_so(growmas):
    Path("empty").mkdir()
    code, out, _ = growmas("ls", "empty")
    assert (code, out) == (0, "there are no runs below empty; growmas run CONFIG makes runs/NAME\n")
    assert growmas("ls", "empty", "--json")[:2] == (0, "[]\n")


def test_a_run_that_cannot_be_read_is_a_row_with_its_reason(growmas):
    Path("runs/odd").mkdir(parents=True)
    Path("runs/odd/metrics.json").write_text("{}")
    code, out, _ = growmas("ls")
    assert code == 0
    assert "unreadable" in out
    assert "the metrics of 'a run' lack name, method" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["sweep", "--help"],
        ["sweep", "digits_smoke", "seed=1..2", "--dry-run"],
        ["configs"],
        ["configs", "digits_smoke"],
    ],
)
def test_none_of_these_imports_torch(arguments, tmp_path):
    code = (
        "import sys\n"
        f"sys.argv = ['growmas', *{arguments!r}]\n"
        "from growmas.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "loaded = {'torch', 'networkx'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
