"""The trials of a search, the best first."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from growmas.config.formatting import short_keys
from growmas.sweep.tuning import Trial
from growmas.terminal.symbols import symbols
from growmas.terminal.tables import plain_table, with_notes

_SHOWN = 10


def render_trials(trials: Sequence[Trial], *, seed: int, ascii: bool = False) -> RenderableType:
    """Draw the best trials, a row each, for a rich console.

    Args:
        trials: Of a search; values that were tried twice are drawn once.
        seed: Of the trials.
        ascii: Use ASCII characters only (values are printed as they are).
    """
    signs = symbols(ascii=ascii)
    once = list({trial.run.name: trial for trial in trials}.values())
    ranked = sorted(once, key=lambda trial: 1.0 if trial.validation is None else -trial.validation)
    table = plain_table(signs)
    keys = list(trials[0].values)
    for heading in short_keys(keys).values():
        table.add_column(heading, overflow="fold")
    table.add_column("validation", justify="right", no_wrap=True)
    for trial in ranked[:_SHOWN]:
        found = trial.validation
        table.add_row(
            *(Text(trial.values[key]) for key in keys),
            "failed" if found is None else signs.percent(found),
        )
    more = f", the best {_SHOWN}" if len(once) > _SHOWN else ""
    lines = [
        f"{len(once)} trials on seed {seed}{more}; validation: mean accuracy over the tasks, in "
        "percent, on training samples that were held out"
    ]
    failed = sum(trial.validation is None for trial in once)
    if failed:
        lines.append(f"{failed} failed, which count as the worst")
    return with_notes(table, lines)
