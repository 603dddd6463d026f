"""The settings of a sweep side by side, each over all of its seeds.

`read_runs` reads, `summarise` computes; `as_data` and `render_sweep` only write down what it
computed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from growmas.config.wording import short_keys
from growmas.errors import RunError
from growmas.terminal.result import RunResult, read_results
from growmas.terminal.symbols import Symbols, symbols
from growmas.terminal.tables import plain_table, with_notes

SUMMARY = "sweep.json"
SEED = "seed"


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep, as far as it is.

    Attributes:
        name: Of its directory.
        setting: Key -> value, as it was asked for.
        message: Why it failed; empty if it did not.
        result: What the run reports; None before it has begun.
        cpu_seconds: CPU time of learning.
    """

    name: str
    setting: Mapping[str, str]
    message: str = ""
    result: RunResult | None = None
    cpu_seconds: float = 0.0

    @property
    def status(self) -> str:
        """One of "finished", "failed", "unfinished", and "waiting" before it has begun."""
        if self.message:
            return "failed"
        return self.result.status if self.result else "waiting"


@dataclass(frozen=True)
class Spread:
    """A number over seeds.

    Attributes:
        mean: Of the runs.
        deviation: Sample standard deviation (n−1); None of a single run.
    """

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """None of no values."""
        if not values:
            return None
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Setting:
    """All runs that differ in nothing but the seed.

    Attributes:
        values: Key -> value, without the seed.
        runs: How many there are to be.
        finished: How many are finished; the numbers are over these.
        seeds: Their seeds.
        average_accuracy: ACC.
        forgetting: Likewise.
        parameters: At the end.
        cpu_seconds: Of learning.
    """

    values: Mapping[str, str]
    runs: int
    finished: int
    seeds: tuple[int, ...]
    average_accuracy: Spread | None
    forgetting: Spread | None
    parameters: Spread | None
    cpu_seconds: Spread | None


@dataclass(frozen=True)
class SweepSummary:
    """A sweep.

    Attributes:
        runs: In the order in which they begin.
        settings: In the order in which they came.
        varied: The keys, seed left out, in which settings differ.
        best: Positions in `settings` of those with the highest mean ACC. Settings that print
            alike share the mark; empty if a key of the stream is varied, as the numbers do not
            compare then, or if fewer than two settings have numbers.
    """

    runs: tuple[SweepRun, ...]
    settings: tuple[Setting, ...]
    varied: tuple[str, ...]
    best: frozenset[int]


def find_sweep(name: str, root: Path) -> Path | None:
    """The folder of a sweep, given by its path or its name below `root`; None if it is none."""
    for folder in (Path(name), root / name):
        if (folder / SUMMARY).is_file():
            return folder
    return None


def read_runs(folder: Path) -> tuple[SweepRun, ...]:
    """The runs of a sweep as they are now, finished or not.

    Raises:
        RunError: It is not a sweep, or its summary is damaged.
    """
    path = folder / SUMMARY
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["runs"]
        runs = [(str(run["name"]), dict(run["setting"]), str(run["message"])) for run in listed]
    except FileNotFoundError as error:
        raise RunError(f"{folder} is not a sweep: it has no {SUMMARY}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged: repeat the command that made it") from error
    return tuple(look_at(folder, name, setting, message) for name, setting, message in runs)


def look_at(folder: Path, name: str, setting: Mapping[str, str], message: str = "") -> SweepRun:
    """One run of a sweep as it is now.

    Raises:
        RunError: Its metrics are damaged.
    """
    if not (folder / name / "metrics.json").is_file():
        return SweepRun(name, setting, message)
    data = read_results(folder / name)
    cpu_seconds = float(data.get("cpu_seconds", 0.0))
    return SweepRun(name, setting, message, RunResult.read(data), cpu_seconds)


def summarise(runs: Iterable[SweepRun]) -> SweepSummary:
    """Compute what `render_sweep` and `as_data` show."""
    runs = tuple(runs)
    alike: dict[tuple[tuple[str, str], ...], list[SweepRun]] = {}
    for run in runs:
        values = tuple((key, value) for key, value in run.setting.items() if key != SEED)
        alike.setdefault(values, []).append(run)
    settings = tuple(_setting(dict(values), group) for values, group in alike.items())
    keys = list(dict.fromkeys(key for each in settings for key in each.values))
    varied = tuple(key for key in keys if len({each.values.get(key) for each in settings}) > 1)
    means = {
        i: round(100 * each.average_accuracy.mean, 1)
        for i, each in enumerate(settings)
        if each.average_accuracy is not None
    }
    if len(means) < 2 or any(key.partition(".")[0] == "stream" for key in varied):
        means = {}
    best = frozenset(i for i, mean in means.items() if mean == max(means.values()))
    return SweepSummary(runs, settings, varied, best)


def _setting(values: dict[str, str], runs: Sequence[SweepRun]) -> Setting:
    done = [
        (run.result, run.cpu_seconds) for run in runs if run.result and run.status == "finished"
    ]
    results = [result for result, _ in done]
    return Setting(
        values=values,
        runs=len(runs),
        finished=len(done),
        seeds=tuple(result.seed for result in results),
        average_accuracy=Spread.of([result.average_accuracy or 0.0 for result in results]),
        forgetting=Spread.of([result.forgetting or 0.0 for result in results]),
        parameters=Spread.of([result.parameters for result in results]),
        cpu_seconds=Spread.of([seconds for _, seconds in done]),
    )


def as_data(summary: SweepSummary) -> dict[str, Any]:
    """The table, and the runs it was made of, as a JSON-ready dict."""
    return {
        "settings": [
            {**asdict(setting), "best": i in summary.best}
            for i, setting in enumerate(summary.settings)
        ],
        "runs": [
            {
                "name": run.name,
                "setting": dict(run.setting),
                "status": run.status,
                "message": run.message,
                "seed": run.result.seed if run.result else None,
                "average_accuracy": run.result.average_accuracy if run.result else None,
                "forgetting": run.result.forgetting if run.result else None,
                "parameters": run.result.parameters if run.result else None,
                "cpu_seconds": run.cpu_seconds if run.result else None,
            }
            for run in summary.runs
        ],
    }


def render_sweep(summary: SweepSummary, *, ascii: bool = False) -> RenderableType:
    """A row for each setting: its values, and means over seeds, for a rich console.

    Args:
        summary: Of `summarise`.
        ascii: Use ASCII characters only (values are printed as they are).
    """
    signs = symbols(ascii=ascii)
    table = plain_table(signs)
    headings = short_keys(summary.varied)
    for key in summary.varied:
        table.add_column(headings[key], overflow="fold")
    if not summary.varied:
        table.add_column("setting")
    for heading in ("runs", "ACC ", "forgetting", "parameters", "CPU s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for i, setting in enumerate(summary.settings):
        values = [Text(setting.values.get(key, signs.nothing)) for key in summary.varied]
        partial = setting.finished < setting.runs
        table.add_row(
            *(values or [Text("all")]),
            f"{setting.finished}/{setting.runs}" if partial else str(setting.runs),
            _percent(setting.average_accuracy, signs) + (signs.best if i in summary.best else " "),
            _percent(setting.forgetting, signs),
            _number(setting.parameters, ",.0f", signs),
            _number(setting.cpu_seconds, ",.1f", signs),
        )
    return with_notes(table, _notes(summary, signs))


def render_plan(
    folder: Path, runs: Sequence[tuple[str, str]], *, ascii: bool = False
) -> RenderableType:
    """What a sweep would do, for a rich console.

    Args:
        folder: Of the sweep.
        runs: The name and the state of each run.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, state in runs:
        table.add_row(Text(state), Text(name, overflow="fold"))
    finished = sum(state == "finished" for _, state in runs)
    count = f"{len(runs) - finished} to run, {finished} finished; nothing was started"
    return with_notes(table, [f"in {folder}: {count}"])


def _notes(summary: SweepSummary, signs: Symbols) -> list[str]:
    seeds = sorted({seed for setting in summary.settings for seed in setting.seeds})
    accuracy, _, forgetting = signs.formulas
    same = {
        key: value
        for key, value in (summary.settings[0].values.items() if summary.settings else ())
        if key not in summary.varied
    }
    lines = []
    if any(setting.finished > 1 for setting in summary.settings):
        lines.append(
            f"mean {signs.spread} sample standard deviation over runs, "
            f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
        )
    lines += ["In percent, R[i][j] the accuracy on task j after task i, T the tasks learnt:"]
    lines += [accuracy, forgetting]
    if same:
        lines.append("In every run: " + ", ".join(f"{key}={value}" for key, value in same.items()))
    if summary.best:
        lines.append(f"{signs.best} highest mean ACC.")
    if any(setting.finished < setting.runs for setting in summary.settings):
        failed = sum(run.status == "failed" for run in summary.runs)
        told = f"; {failed} failed, {SUMMARY} says why" if failed else ""
        lines.append(f"n/m runs: only the n finished ones count{told}.")
    return lines


def _percent(spread: Spread | None, signs: Symbols) -> str:
    if spread is None:
        return signs.nothing
    mean = signs.percent(spread.mean)
    if spread.deviation is None:
        return mean
    return f"{mean} {signs.spread} {signs.percent(spread.deviation)}"


def _number(spread: Spread | None, form: str, signs: Symbols) -> str:
    if spread is None:
        return signs.nothing
    mean = f"{spread.mean:{form}}"
    if not spread.deviation:
        return mean
    return f"{mean} {signs.spread} {spread.deviation:{form}}"
