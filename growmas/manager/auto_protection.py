"""The choice between units frozen by birth and the MAS penalty, tried out on the second task."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.optim import Optimizer

from growmas.batches import Forward
from growmas.errors import PenaltyError, PlanError
from growmas.manager.birth import BirthProtection
from growmas.penalty import MAS
from growmas.rollback import restored
from growmas.structure import Structure

Candidate = Literal["old"] | float
"""Units of earlier tasks frozen ("old"), or the strength λ of the penalty on them."""


@dataclass(frozen=True)
class ProtectionChoice:
    """The candidates that were compared, and the one that was taken.

    Attributes:
        chosen: "old", or the strength λ of the penalty.
        scores: Each candidate with its score, in the order in which they were tried.
    """

    chosen: Candidate
    scores: tuple[tuple[Candidate, float], ...]

    def __str__(self) -> str:
        tried = ", ".join(f"{_named(each)} {score:.4f}" for each, score in self.scores)
        return f"protection of earlier tasks: {_named(self.chosen)} (tried: {tried})"


class AutoProtection(BirthProtection):
    """Freeze the units of earlier tasks or hold them by a penalty, whichever proves better.

    When the second task begins, `choose` learns it once for every candidate: with the old units
    frozen, and with the MAS penalty at each of some strengths. After each the network, the
    optimizer and torch's random numbers are put back. The candidate with the best score on data
    that was not learnt is taken for all tasks from then on. Freezing keeps a third of the numbers,
    so a penalty must be better by more than a margin.

    Example:
        >>> import torch, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> x, structure = torch.rand(16, 4), growmas.Structure(net, torch.rand(2, 4))
        >>> mas = growmas.MAS(net)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> protect = growmas.AutoProtection(structure, mas, strengths=(0.1, 1.0))
        >>> manager = growmas.StructuralManager(
        ...     structure, mas=mas, optimizer=optimizer, protect=protect)
        >>> _ = manager.begin_task("first")
        >>> _ = manager.end_task([x])
        >>> _ = manager.begin_task("second")
        >>> def learn():
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         (net(x).square().mean() + mas.penalty()).backward()
        ...         optimizer.step()
        >>> choice = protect.choose(learn, lambda: -net(x).square().mean().item(),
        ...                         optimizer=optimizer)
        >>> [candidate for candidate, score in choice.scores]
        ['old', 0.1, 1.0]

    Attributes:
        mas: The penalty that is the other candidate.
        strengths: λ of each candidate with a penalty.
        choice: What was chosen; None before.
    """

    def __init__(
        self,
        structure: Structure,
        mas: MAS,
        *,
        strengths: Sequence[float],
        exclude: Iterable[str] = (),
    ) -> None:
        """Prepare for the end of the first task.

        Args:
            structure: The units of the network.
            mas: The penalty, consolidated at the end of each task until units are frozen.
            strengths: λ of each candidate with a penalty, each above 0.
            exclude: See `BirthProtection`.

        Raises:
            PlanError: There is no strength, or one is not above 0; `mas` is something else or of
                another network.
        """
        super().__init__(structure, exclude=tuple(exclude))
        if not isinstance(mas, MAS) or mas.model is not structure.model:
            raise PlanError("mas: expected the MAS of the structure's model, as MAS(model)")
        given = strengths if isinstance(strengths, list | tuple) else ()
        if not given or not all(_is_strength(each) for each in given):
            raise PlanError(
                f"strengths={strengths!r}: expected numbers above 0 to try, such as (0.1, 1.0)"
            )
        self.mas = mas
        self.strengths = tuple(float(each) for each in given)
        self.choice: ProtectionChoice | None = None

    @property
    def penalised(self) -> bool:
        """True while importance is needed: before the choice, and after that of a penalty."""
        return self.choice is None or self.choice.chosen != "old"

    def freeze(self, batches: Iterable[Any], *, forward: Forward | None = None) -> None:
        """Freeze the units that live now, unless the penalty was chosen.

        Raises:
            PlanError: The second task ends without a choice, or no task has begun.
            DataError: See `BirthProtection.freeze`.
        """
        if self.choice is None and self.through >= 0:
            raise PlanError(
                "the protection of earlier tasks was not chosen: call choose(learn, evaluate, "
                "optimizer=optimizer) when the second task has begun"
            )
        if self.choice is None or self.choice.chosen == "old":
            super().freeze(batches, forward=forward)

    def choose(
        self,
        learn: Callable[[], object],
        evaluate: Callable[[], float],
        *,
        optimizer: Optimizer,
        margin: float = 0.0,
    ) -> ProtectionChoice:
        """Learn the second task with each candidate, and take the best one.

        Args:
            learn: Trains the network in place on the second task, by steps of `optimizer` with the
                penalty in the loss or in the gradients.
            evaluate: Returns a score, higher is better, on data that `learn` does not see: best
                the mean over both tasks, the first one by its view.
            optimizer: It is guarded from now on, and is as before after each trial.
            margin: By how much more than this a penalty must be better than freezing, such as the
                standard error of the scores.

        Raises:
            PlanError: It is not the second task that has begun, the choice was made, a score is
                not a number, or `margin` is negative. Everything is then as before.
        """
        if self.choice is not None:
            raise PlanError(f"the choice was made before: {self.choice}")
        if self.through < 0 or self.structure.task <= self.through:
            raise PlanError(
                "choose() compares on the second task: end the first one with end_task(batches), "
                "begin the second with begin_task(name), and call it then"
            )
        if not margin >= 0:
            raise PlanError(f"margin={margin!r}: expected a number that is 0 or more")
        self.guard(optimizer)
        scores: list[tuple[Candidate, float]] = []
        candidates: tuple[Candidate, ...] = ("old", *self.strengths)
        for candidate in candidates:
            with restored(self.model, optimizer, self, self.mas), torch.random.fork_rng(devices=[]):
                self._take(candidate)
                learn()
                score = float(evaluate())
            if math.isnan(score):
                raise PlanError(
                    f"the score of {_named(candidate)} is not a number: lower the learning rate, "
                    "or return a finite score"
                )
            scores.append((candidate, score))
        best, highest = max(scores, key=lambda each: each[1])
        chosen = best if highest > scores[0][1] + margin else "old"
        self._take(chosen)
        if chosen == "old":
            self.mas.omega, self.mas.anchor = {}, {}
            self.mas.tasks, self.mas.measured = 0, ()
        self.choice = ProtectionChoice(chosen, tuple(scores))
        return self.choice

    def state_dict(self) -> dict[str, Any]:
        """Return plain values: those of `BirthProtection`, and the choice."""
        choice = self.choice
        chosen = None if choice is None else choice.chosen
        scores = [] if choice is None else [list(each) for each in choice.scores]
        return {**super().state_dict(), "chosen": chosen, "scores": scores}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned, once the structure has been restored.

        Raises:
            PenaltyError: See `BirthProtection.load_state_dict`.
        """
        super().load_state_dict(state)
        if state["chosen"] is None:
            self.choice = None
            return
        scores = tuple((_read(each), float(score)) for each, score in state["scores"])
        self.choice = ProtectionChoice(_read(state["chosen"]), scores)

    def _take(self, candidate: Candidate) -> None:
        """Freeze the units of the first task, or release them to the penalty."""
        if candidate == "old":
            self.mas.strength = 0.0
        else:
            self.mas.strength = candidate
            self.thaw()


def _named(candidate: Candidate) -> str:
    return "old units frozen" if candidate == "old" else f"penalty {candidate:g}"


def _is_strength(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < float("inf")  # type: ignore[operator]


def _read(value: Any) -> Candidate:
    if value == "old":
        return "old"
    if not _is_strength(value):
        raise PenaltyError(f"the state of the protection names {value!r}: expected 'old' or a λ")
    return float(value)
