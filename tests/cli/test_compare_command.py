"""`growmas compare` of settings over several seeds."""

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest

from growmas.cli import main

CONFIG = """\
name: {name}
seed: {seed}
device: cpu
stream: {{kind: split, source: digits}}
method: {{kind: {method}{strength}}}
"""


def write(folder: Path, *, seed: int, accuracy: float, method: str = "mas", **changes: object):
    """Write what `growmas compare` reads of a run."""
    folder.mkdir(parents=True)
    strength = f", strength: {changes.pop('strength')}" if "strength" in changes else ""
    folder.joinpath("config.yaml").write_text(
        CONFIG.format(name=folder.name, seed=seed, method=method, strength=strength)
    )
    metrics = {
        "name": folder.name,
        "method": method,
        "stream": "digits split",
        "scenario": "task",
        "seed": seed,
        "tasks": ["a", "b"],
        "accuracy": [[1.0], [accuracy, accuracy]],
        "parameters": 1000,
        "units": {"fc1": 8},
        "seconds": 2.0,
        "cpu_seconds": 1.5,
        "context_size": 24,
        "status": "finished",
    }
    folder.joinpath("metrics.json").write_text(json.dumps(metrics | changes))


@pytest.fixture
def growmas(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def growmas(*arguments):
        monkeypatch.setattr(sys, "argv", ["growmas", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    for seed, shift in enumerate([0.0, 0.02, -0.01, 0.013, 0.004]):
        write(Path(f"runs/tuned{seed}"), seed=seed, accuracy=0.9 + shift, strength=1.0)
        write(Path(f"runs/weak{seed}"), seed=seed, accuracy=0.85 + shift / 2, strength=0.1)
        write(Path(f"runs/luck{seed}"), seed=seed, accuracy=0.9 - shift * (-1) ** seed, strength=9)
    return growmas


def every(*names):
    return [f"{name}{seed}" for name in names for seed in range(5)]


def test_seeds_are_gathered_and_only_what_holds_is_marked(growmas):
    code, out, _ = growmas("compare", *every("tuned", "weak", "luck"), "--width", 120)
    assert code == 0
    tuned, weak, luck = (line for line in out.splitlines() if re.match(r"\d", line))
    assert tuned.split()[:3] == ["1.0", "5", "90.5"]
    assert "*" not in tuned
    assert re.search(r"−5\.\d \[−\d\.\d, −\d\.\d\]\*", weak)
    assert "baseline" in luck  # the highest mean, by chance
    assert "Holm" in out


def test_the_table_fits_80_columns(growmas):
    _, out, _ = growmas("compare", *every("tuned", "weak"), "--width", 80, "--ascii")
    assert out.isascii()
    assert max(map(len, out.splitlines())) <= 80
    assert "[" in out


@pytest.mark.parametrize("width", [40, 72, 90])
def test_names_and_numbers_stay_whole_at_every_width(growmas, width):
    write(Path("runs/another"), seed=0, accuracy=0.7, method="finetune", strength=0.25)
    _, out, _ = growmas("compare", *every("tuned", "weak"), "another", "--width", width)
    assert max(map(len, out.splitlines())) <= width
    words = set(re.split(r"[\s,=]+", out))
    assert {"finetune", "mas", "forgetting", "0.25", "024"} <= words
    assert "…" not in out


def test_the_formats_hold_the_same_numbers(growmas):
    names = every("tuned", "weak")
    _, text, _ = growmas("compare", *names, "--format", "csv")
    tuned, weak = csv.DictReader(io.StringIO(text))
    assert (tuned["method.strength"], tuned["seeds"], tuned["numbers"]) == ("1.0", "5", "1024.0")
    assert float(weak["difference_mean"]) == pytest.approx(-0.0527)
    _, text, _ = growmas("compare", *names, "--format", "json")
    setting = json.loads(text)["settings"][1]
    assert setting["difference"]["mean"] == float(weak["difference_mean"])
    assert setting["holds"] is True
    assert setting["seeds"] == [0, 1, 2, 3, 4]
    _, text, _ = growmas("compare", *names, "--format", "markdown")
    assert text.splitlines()[1] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert "\\*" in text
    _, text, _ = growmas("compare", *names, "--format", "latex")
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert {line.count("&") for line in rows} == {7}
    assert "$-$5.3" in text


def test_a_baseline_is_named_by_what_it_alone_has(growmas):
    names = every("tuned", "weak", "luck")
    for baseline in ("0.1", "strength=0.1", "weak0"):
        _, out, _ = growmas("compare", *names, "--baseline", baseline, "--format", "json")
        assert [each["baseline"] for each in json.loads(out)["settings"]] == [False, True, False]
    code, _, err = growmas("compare", *names, "--baseline", "strength=0.2")
    assert (code, "the 3 settings are 'strength=1.0'" in err) == (2, True)


def test_another_metric(growmas):
    _, out, _ = growmas("compare", *every("tuned", "weak"), "--metric", "forgetting")
    assert "forgetting" in out.splitlines()[0] + out.splitlines()[1]
    assert "baseline" in next(line for line in out.splitlines() if line.startswith("1.0"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "acuracy"], "did you mean 'accuracy'?"),
        (["--format", "html"], "expected table, markdown, latex, csv, json"),
        (["--baseline", "mas"], "there is no setting 'mas'"),
    ],
)
def test_wrong_options(growmas, arguments, message):
    code, out, err = growmas("compare", *every("tuned", "weak"), *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_runs_that_are_not_finished_are_counted_but_not_compared(growmas):
    write(Path("runs/tuned9"), seed=9, accuracy=0.1, strength=1.0, status="unfinished")
    _, out, _ = growmas("compare", *every("tuned", "weak"), "tuned9")
    assert "5/6" in out
    assert "only the n finished runs count" in out
    code, _, err = growmas("compare", "tuned9", "--format", "csv")
    assert (code, "none of these runs is finished" in err) == (2, True)


def test_other_streams_are_listed_and_not_tested(growmas):
    for seed in range(5):
        write(Path(f"runs/other{seed}"), seed=seed, accuracy=0.99, stream="mnist5k split")
    _, out, _ = growmas("compare", *every("tuned", "other"), "--width", 120)
    assert "do not compare" in out
    assert "baseline" not in out
    assert "*" not in out


def test_single_runs_are_not_marked(growmas):
    _, out, _ = growmas("compare", "tuned0", "weak0")
    assert "*" not in out
    assert "One run each" in out


def test_a_run_given_twice_counts_once(growmas):
    _, out, _ = growmas("compare", "tuned0", "runs/tuned0", "weak0", "--format", "json")
    assert [each["seeds"] for each in json.loads(out)["settings"]] == [[0], [0]]


def test_another_run_of_the_same_seed_is_a_setting_of_its_own(growmas):
    write(Path("runs/again"), seed=0, accuracy=0.7, strength=1.0)
    _, out, _ = growmas("compare", *every("tuned"), "again", "--format", "json")
    assert [each["seeds"] for each in json.loads(out)["settings"]] == [[0, 1, 2, 3, 4], [0]]
