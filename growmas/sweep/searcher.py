"""Search for values of keys by Optuna."""

from collections.abc import Sequence

import optuna

from growmas.config import Range, TuneConfig
from growmas.sweep.end_points import in_yaml

_DIGITS = 4
"""Digits of a value from a range, so that configs and names stay readable."""


class Searcher:
    """Chooses values, and learns from how good they were.

    The same answers give the same choices, so that a search that was stopped is repeated up to
    where it was, with the runs that are there.

    Args:
        config: What to search.
    """

    def __init__(self, config: TuneConfig) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        first = min(10, max(config.trials // 2, 1))  # at random, before what is learnt counts
        sampler: optuna.samplers.BaseSampler = (
            optuna.samplers.TPESampler(seed=config.seed % 2**32, n_startup_trials=first)
            if config.sampler == "tpe"
            else optuna.samplers.RandomSampler(seed=config.seed % 2**32)
        )
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._keys = config.keys
        self._asked: list[optuna.Trial] = []

    def ask(self, count: int) -> list[dict[str, str]]:
        """Return key -> value in YAML of some trials, which are then answered together."""
        self._asked = [self._study.ask() for _ in range(count)]
        return [
            {key: _chosen(trial, key, values) for key, values in self._keys.items()}
            for trial in self._asked
        ]

    def tell(self, answers: Sequence[float]) -> None:
        """Say how good the trials were that were asked for last, in their order."""
        for trial, answer in zip(self._asked, answers, strict=True):
            self._study.tell(trial, answer)
        self._asked = []


def _chosen(trial: optuna.Trial, key: str, values: Range | tuple[object, ...]) -> str:
    if not isinstance(values, Range):
        return str(trial.suggest_categorical(key, [in_yaml(value) for value in values]))
    if values.whole:
        return str(trial.suggest_int(key, int(values.low), int(values.high), log=values.log))
    number = trial.suggest_float(key, values.low, values.high, log=values.log)
    rounded = float(f"{number:.{_DIGITS}g}")
    return f"{min(max(rounded, values.low), values.high):g}"
