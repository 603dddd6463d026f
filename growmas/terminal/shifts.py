"""Losses, shifts and events of a stream without task boundaries, as `growmas shifts` prints them.

`summarise` computes; `as_data` and `render_shifts` only format the result.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from growmas.runs.trace import StreamEvent, StreamTrace, read_trace
from growmas.shift import Cusum, DetectionScore, PlateauDetector, ShiftEvent, replay, score
from growmas.terminal import plot
from growmas.terminal.symbols import Symbols, symbols

__all__ = ["as_data", "read_trace", "render_shifts", "summarise"]

_ROWS = 8
_LABEL = 11
_LISTED = 12


@dataclass(frozen=True)
class ShiftSummary:
    """Contents of the plot and its tables.

    Attributes:
        trace: The trace that was read.
        scores: Detector -> how well its peaks match the true shifts so far; first the run's own
            detector, then others on the same losses.
        actions: What the learner did at an event -> number of times.
    """

    trace: StreamTrace
    scores: Mapping[str, DetectionScore]
    actions: Mapping[str, int]


def summarise(trace: StreamTrace) -> ShiftSummary:
    """Score the run's own peaks, and those of other detectors on the same losses."""
    seen = len(trace.losses)
    truth = [(first, last) for first, last, _ in trace.true_shifts if first < seen]
    own = [
        ShiftEvent("peak", happening.step, happening.onset, happening.reason)
        for happening in trace.events
        if happening.kind == "peak"
    ]
    detected = {
        "this run": tuple(own),
        "relative, replayed": replay(trace.losses, PlateauDetector()),
        "paper, replayed": replay(trace.losses, PlateauDetector(mode="paper")),
        "Cusum, replayed": replay(trace.losses, Cusum()),
    }
    scores = {name: score(events, truth, steps=seen) for name, events in detected.items()}
    return ShiftSummary(trace, scores, Counter(event.action for event in trace.events))


def as_data(trace: StreamTrace) -> dict[str, object]:
    """Return the plot and its tables as a JSON-ready dict."""
    summary = summarise(trace)
    return {
        "stream": trace.stream,
        "steps": trace.steps,
        "seen": len(trace.losses),
        "contexts": list(trace.contexts),
        "true_shifts": [list(shift) for shift in trace.true_shifts],
        "events": [asdict(happening) for happening in trace.events],
        "widths": [{"step": step, "widths": dict(widths)} for step, widths in trace.widths],
        "scores": {
            name: {
                "shifts": result.shifts,
                "found": result.found,
                "peaks": result.peaks,
                "recall": result.recall,
                "precision": result.precision,
                "delay": result.delay,
                "false_alarms_per_1000": result.false_alarms_per_1000,
            }
            for name, result in summary.scores.items()
        },
        "losses": list(trace.losses),
    }


def render_shifts(trace: StreamTrace, *, ascii: bool = False) -> RenderableType:
    """Return a plot of the loss with plateaus, peaks and true shifts, then widths and scores.

    Args:
        trace: Trace from `read_trace`.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    return _ShiftPlot(summarise(trace), ascii, symbols(ascii=ascii))


@dataclass(frozen=True)
class _ShiftPlot:
    """A plot and tables that are laid out when they are printed."""

    summary: ShiftSummary
    ascii: bool
    symbols: Symbols

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = max(10, options.max_width - _LABEL - 1)
        for label, row, style in self._rows(columns):
            text = Text(f"{_cut(label, self.symbols):>{_LABEL}} ", "dim", no_wrap=True)
            yield text.append(row, style or "not dim")
        yield Text("\n" + self._caption())
        if self.summary.trace.events:
            yield Text()
            yield self._events()
        yield Text()
        yield self._scores()

    def _rows(self, columns: int) -> list[tuple[str, str, str]]:
        trace = self.summary.trace
        steps, losses = trace.steps, trace.losses
        rows = plot.line(losses, steps, columns, _ROWS, ascii=self.ascii)
        labels = [""] * _ROWS
        if losses:
            labels[0], labels[-1] = f"loss {max(losses):.3g}", f"{min(losses):.3g}"
        found = [(label, row, "") for label, row in zip(labels, rows, strict=True)]
        signs = ("|", "~", "^", "_") if self.ascii else ("┃", "╌", "▲", "▂")
        truth = [(first, last) for first, last, _ in trace.true_shifts]
        peaks = self._spans("peak")
        plateaus = self._spans("plateau")
        found += [
            ("true shift", plot.marks(truth, steps, columns, signs[0], signs[1]), "cyan"),
            ("peak", plot.marks(peaks, steps, columns, signs[2], signs[2]), "red"),
            ("plateau", plot.marks(plateaus, steps, columns, signs[3], signs[3]), "green"),
        ]
        for name in {name: None for _, widths in trace.widths for name in widths}:
            changes = [(step, widths[name]) for step, widths in trace.widths if name in widths]
            bars = plot.bars(changes, len(losses), steps, columns, ascii=self.ascii)
            found.append((f"{name} {changes[-1][1]}", bars, "blue"))
        return [*found, ("step", plot.axis(steps, columns), "dim")]

    def _spans(self, kind: str) -> list[tuple[int, int]]:
        chosen = [event for event in self.summary.trace.events if event.kind == kind]
        if kind == "peak":
            return [(event.step, event.step) for event in chosen]
        return [(event.onset, event.step) for event in chosen]

    def _caption(self) -> str:
        trace, actions = self.summary.trace, self.summary.actions
        seen = len(trace.losses)
        so_far = "" if seen >= trace.steps else f" ({seen} so far)"
        made = ", ".join(f"{count} {action}" for action, count in actions.items())
        contexts = f"{len(trace.contexts)} contexts" if trace.contexts else "no contexts"
        return f"{trace.stream}: {trace.steps} steps{so_far}, {contexts}; {made or 'no events'}."

    def _events(self) -> Table:
        happenings = self.summary.trace.events
        table = self._table()
        for heading in ("step", "began"):
            table.add_column(heading, justify="right", no_wrap=True)
        for heading in ("event", "action", "context"):
            table.add_column(heading, overflow="fold")
        hidden = len(happenings) - _LISTED
        shown = happenings if hidden <= 0 else happenings[-_LISTED:]
        if hidden > 0:
            table.add_row(self.symbols.ellipsis, "", f"{hidden} earlier", "", "")
        for event in shown:
            table.add_row(*_cells(event, self.symbols))
        return table

    def _scores(self) -> Table:
        table = self._table()
        table.add_column("detector")
        for heading in ("found", "peaks", "recall", "precision", "delay", "false / 1,000"):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, result in self.summary.scores.items():
            false = result.false_alarms_per_1000
            table.add_row(
                name,
                f"{result.found} of {result.shifts}",
                str(result.peaks),
                self.symbols.percent(result.recall),
                self.symbols.percent(result.precision),
                self.symbols.nothing if result.delay is None else f"{result.delay:g}",
                self.symbols.nothing if false is None else f"{false:.1f}",
            )
        return table

    def _table(self) -> Table:
        return Table(
            box=self.symbols.rule,
            show_edge=False,
            pad_edge=False,
            header_style="bold",
            padding=(0, 1, 0, 0),
        )


def _cells(event: StreamEvent, signs: Symbols) -> tuple[str | Text, ...]:
    context = Text(event.context or signs.nothing)
    return str(event.step), str(event.onset), event.kind, event.action, context


def _cut(label: str, signs: Symbols) -> str:
    """Return a label that fits; its end is kept, since it holds the number."""
    if len(label) <= _LABEL:
        return label
    return signs.ellipsis + label[len(label) + len(signs.ellipsis) - _LABEL :]
