"""A learner that nobody tells where a task ends: a stream of batches in, answers at any time."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from growmas.batches import Forward, cut, default_forward
from growmas.contexts import GaussianContext, answer_by_context
from growmas.contexts.answering import TaskForward
from growmas.errors import ShiftError
from growmas.history.tracker import TopologyTracker
from growmas.manager import Budget, GrowByNeed, StructuralManager
from growmas.manager.manager import Norms
from growmas.manager.policy_sequence import Policies, as_policies
from growmas.penalty import MAS
from growmas.shift import Detector, PlateauDetector, ShiftEvent
from growmas.structure import Structure
from growmas.training.task_free.recent import Recent, Rewind, Seen, buffers_kept
from growmas.training.task_free.records import Deed, Shift, StepDone
from growmas.training.task_free.state import learner_state, restore_learner
from growmas.training.task_free.trial import STEPS, trial_on

HOLD = 10
"""Steps after which a batch is taken into the statistics of its context, if no shift came."""

TOGETHER = 5
"""Steps from one update of the statistics to the next: a few batches at once cost less."""

NEAR = 0.3
"""How near its usual loss a known context must come to be taken for the one that came back: the
share of the way from there to the loss that gave the shift away."""


class TaskFreeLearner:
    """Learns from a stream of batches; a detected shift does what a named task boundary does.

    At a **plateau** of the loss, importance is consolidated on the last batches, the network is
    pruned, and its statistics are refreshed. At a **peak**, the network goes back to a state from
    before the peak began, so that what was learnt through the wrong view is undone; importance is
    measured again there. Then either a context seen before comes back with its view, without
    growth, if it is the likeliest by the inputs and its loss is near what it used to be; or a new
    one is opened, which grows the network by its policies. The batches since the peak began are
    learnt again in that context.

    Memory is bounded: the last `recent` batches, four states of the network of the last twenty
    steps, two copies of the penalty, and a Gaussian for each of at most `contexts` contexts.
    Growth is bounded by `budget` and by `contexts`. Contexts are tasks of the structure, named
    after the step at which they begin.

    Example:
        >>> import torch, growmas
        >>> _ = torch.manual_seed(0)
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> structure = growmas.Structure(net, torch.rand(8, 4))
        >>> learner = growmas.TaskFreeLearner(
        ...     structure, torch.optim.Adam(net.parameters()), grow=growmas.GrowPolicy(4))
        >>> for _ in range(3):
        ...     x = torch.rand(16, 4)
        ...     done = learner.learn(x, (x[:, 0] > x[:, 1]).long())
        >>> done.step, done.context, tuple(learner.predict(x).shape)
        (2, 'context 1', (16, 2))

    Attributes:
        structure: The units of the network.
        optimizer: Follows the network.
        mas: Importance over contexts.
        manager: Grows and prunes.
        detector: Tells plateaus and peaks.
        context: Knows the inputs of each context.
        tracker: Gets snapshots.
        step: How many batches were learnt.
    """

    def __init__(
        self,
        structure: Structure,
        optimizer: torch.optim.Optimizer,
        *,
        mas: MAS | None = None,
        grow: Policies = None,
        prune: Policies = None,
        budget: Budget | None = None,
        tracker: TopologyTracker | None = None,
        detector: Detector | None = None,
        context: GaussianContext | None = None,
        loss: Callable[[Tensor, Any], Tensor] = F.cross_entropy,
        forward: TaskForward | None = None,
        contexts: int = 16,
        steps: int = 1,
        recent: int = 16,
        samples: int = 16,
        norms: Norms = "statistics",
        trial: int = STEPS,
    ) -> None:
        """Put the parts together.

        Args:
            structure: The units of the network; no task has been begun.
            optimizer: Over its parameters.
            mas: The penalty; None for `MAS(model)`.
            grow: What to grow when a context is opened, see `StructuralManager`.
            prune: What to prune at a plateau.
            budget: What the network may cost at most.
            tracker: Gets a snapshot whenever a context is settled or left.
            detector: None for `PlateauDetector()`.
            context: One Gaussian a context, see `GaussianContext`; None for 100 dimensions.
            loss: (output, labels) -> the mean loss of a batch.
            forward: (model, inputs, position of the context) -> output, for a network with a head
                for each context; None calls the model with the inputs.
            contexts: Most contexts, at most the number of heads.
            steps: Gradient steps on each batch.
            recent: How many of the last batches are held, more than the detector's delay.
            samples: How many samples of each batch the context takes in, the first ones.
            norms: What views remember of norms, see `StructuralManager`.
            trial: Gradient steps of a trial for `GrowByNeed`.

        Raises:
            ShiftError: A number is out of range, or a task has been begun.
        """
        for name, number, least in (
            ("contexts", contexts, 1),
            ("steps", steps, 1),
            ("recent", recent, HOLD + TOGETHER),
            ("samples", samples, 1),
            ("trial", trial, 1),
        ):
            if type(number) is not int or number < least:
                raise ShiftError(f"{name}={number!r}: expected a whole number >= {least}")
        if structure.tasks:
            raise ShiftError(
                f"the structure has begun {structure.tasks[-1]!r}: a task-free learner names its "
                "contexts itself, give it a structure without tasks"
            )
        self.structure = structure
        self.optimizer = optimizer
        self.mas = MAS(structure.model) if mas is None else mas
        self.detector = PlateauDetector() if detector is None else detector
        self.context = GaussianContext() if context is None else context
        self.step = 0
        self._before = MAS(structure.model, strength=self.mas.strength)
        self._policies = (grow, prune, budget)
        self._norms = norms
        self.manager = self._new_manager()
        self.tracker = tracker
        tries = any(isinstance(policy, GrowByNeed) for policy in as_policies("grow", grow))
        self._trial_steps = trial if tries else 0
        self._loss = loss
        self._forward = forward
        self._most = contexts
        self._steps = steps
        self._samples = samples
        self._recent = Recent(recent)
        self._rewind = Rewind(structure.model)
        self._current = -1
        self._settled = False
        self._levels: list[float] = []

    def _new_manager(self) -> StructuralManager:
        """For the network as wide as it is now."""
        grow, prune, budget = self._policies
        return StructuralManager(
            self.structure,
            mas=self.mas,
            optimizer=self.optimizer,
            grow=grow,
            prune=prune,
            budget=budget,
            followers=[self._before],
            norms=self._norms,
        )

    @property
    def current(self) -> str:
        """Name of the context that is being learnt; "" before the first batch."""
        return self.structure.tasks[self._current] if self._current >= 0 else ""

    def learn(self, inputs: Any, labels: Any) -> StepDone:
        """Learn one batch; what happened comes back.

        Args:
            inputs: N samples, what `forward` or the model and the context take.
            labels: What `loss` takes.

        Raises:
            ShiftError: The loss became NaN or infinite; the network was not updated.
            GrowmasError: Whatever the parts refuse.
        """
        if self._current < 0:
            self._open([(inputs, labels)])
        self._rewind.keep(self.step)
        model = self.structure.model.train()
        with buffers_kept(model):
            with self._view():
                loss = self._loss(self._output(model, inputs), labels)
            first = float(loss.detach())
            event = self.detector.update(first)
        shift = None
        if event is not None and event.kind == "peak":
            shift = self._peak(event, inputs, labels, first)
            self._train(inputs, labels)
        else:
            self._train(inputs, labels, loss)
        self._recent.add(Seen(self.step, inputs, labels, first))
        if self.step % TOGETHER == 0:
            self._take_in(self._recent.before(self.step - HOLD + 1))
        if event is not None and event.kind == "plateau":
            shift = self._plateau(event)
        self.step += 1
        return StepDone(self.step - 1, first, self.current, shift)

    def predict(self, inputs: Any, *, together: bool = False) -> Tensor:
        """The output for inputs of nobody knows which context, [N, C].

        The likeliest context's view answers each sample; the model is left bit-identical.

        Args:
            inputs: N samples.
            together: All come from one context.

        Raises:
            ShiftError: Nothing has been learnt yet.
        """
        if self._current < 0:
            raise ShiftError("predict before learn: nothing has been learnt yet")
        if not self.context.tasks:
            self._take_in(list(self._recent))
        return answer_by_context(
            self.structure, self.context, inputs, forward=self._of_context, together=together
        ).logits

    def state_dict(self) -> dict[str, Any]:
        """Everything there is, network, optimizer and parts included: tensors and JSON values.

        What only torch's global random state feeds, such as dropout, goes on differently.
        """
        return learner_state(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken, to the bit.

        Load into a learner made in the same way, from a network at its first widths.

        Raises:
            GrowmasError: Whatever does not fit.
        """
        restore_learner(self, state)

    # What events lead to

    def _plateau(self, event: ShiftEvent) -> Shift:
        if self._settled:
            return Shift(event, "known", self.current, event.reason)
        self._settle(list(self._recent))
        self._rewind.forget()
        return Shift(event, "settled", self.current, event.reason)

    def _peak(self, event: ShiftEvent, inputs: Any, labels: Any, loss: float) -> Shift:
        old = self._recent.before(event.onset)
        new = [*self._recent.since(event.onset), Seen(self.step, inputs, labels, loss)]
        self._take_in(old)
        if old:
            self._levels[self._current] = statistics.median(seen.loss for seen in old)
        self._rewind.back_to(event.onset)
        likeliest, known = self._recognised(new)
        if known == self._current:
            self._recent.keep(old)
            self._learn_again(new)
            return Shift(event, "stayed", self.current, f"{event.reason}; its view still answers")
        self._leave(old)
        self._recent.keep([])
        self._rewind.forget()
        deed: Deed
        if known is not None:
            deed, self._current, self._settled = "returned", known, True
        elif len(self.structure.tasks) < self._most:
            deed = "opened"
            self._open([(seen.inputs, seen.labels) for seen in new])
        else:
            deed, self._current, self._settled = "full", likeliest, True
        self._learn_again(new)
        return Shift(event, deed, self.current, event.reason)

    def _open(self, batches: Sequence[tuple[Any, Any]]) -> None:
        """Begin a context, and grow for it."""
        number = len(self.structure.tasks)
        name = f"context {number + 1}" + (f", step {self.step}" if number else "")
        self._current, self._settled = number, False
        self._levels.append(float("inf"))
        steps, loss = self._trial_steps, self._batch_loss
        trial = trial_on(batches, loss, self.optimizer, steps) if steps else None
        self.manager.begin_task(name, batches, forward=self._of_batch, loss=loss, trial=trial)

    def _settle(self, seen: Sequence[Seen]) -> None:
        """Consolidate on the last batches, prune, and take a snapshot."""
        self._before.load_state_dict(self.mas.state_dict())
        self.manager.end_task([s.inputs for s in seen], forward=self._of_inputs)
        self._settled = True
        self._snapshot()

    def _snapshot(self) -> None:
        if self.tracker is not None:
            self.tracker.snapshot(omega=self.mas.omega)

    def _leave(self, old: Sequence[Seen]) -> None:
        """Have the importance of a context that was new be that of its end."""
        newest = self._current == len(self.structure.tasks) - 1
        if not old or not newest:
            return
        if not self._settled:
            self._settle(old)
        elif self._before.tasks < self.mas.tasks:
            self.mas.load_state_dict(self._before.state_dict())
            self.mas.consolidate([s.inputs for s in old], forward=self._of_inputs)
            if self._norms is not None:
                self.structure.remember_norms(affine=self._norms == "affine")
            self._snapshot()
        self._before.load_state_dict(self.mas.state_dict())

    def _recognised(self, new: Sequence[Seen]) -> tuple[int, int | None]:
        """The likeliest context by the inputs, and whether its loss says so too."""
        known = self.context.tasks
        if not known:
            return self._current, None
        scores = torch.stack([self.context.scores(seen.inputs).sum(0) for seen in new]).sum(0)
        likeliest = self.structure.tasks.index(str(known[int(scores.argmax())]))
        usual, noticed = self._levels[likeliest], statistics.mean(seen.loss for seen in new)
        now = statistics.mean(self._loss_of(seen, likeliest) for seen in new)
        near = now <= usual + NEAR * (noticed - usual)
        return likeliest, likeliest if near else None

    # Learning

    def _learn_again(self, seen: Sequence[Seen]) -> None:
        """The batches since a peak began, but for the last, in the context they belong to."""
        for one in seen[:-1]:
            self._train(one.inputs, one.labels)
            self._recent.add(Seen(one.step, one.inputs, one.labels, one.loss, one.taken))
        self._take_in(self._recent.since(seen[0].step))

    def _train(self, inputs: Any, labels: Any, loss: Tensor | None = None) -> None:
        """The gradient steps on one batch; the first loss may be there already."""
        model = self.structure.model.train()
        for _ in range(self._steps):
            if loss is None:
                with self._view():
                    loss = self._loss(self._output(model, inputs), labels)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._penalty.penalty_grad_()
            self.optimizer.step()
            loss = None

    @property
    def _penalty(self) -> MAS:
        """That of the contexts before, while a new one is learnt; else that of all."""
        newest = self._current == len(self.structure.tasks) - 1
        return self._before if newest and self._settled else self.mas

    def _take_in(self, seen: Sequence[Seen]) -> None:
        """Show the current context what belongs to it, as far as it has not seen it."""
        fresh = [one for one in seen if not one.taken]
        parts = [cut(one.inputs, 0, self._samples) for one in fresh]
        if parts and all(isinstance(part, Tensor) for part in parts):
            parts = [torch.cat(parts)]
        for part in parts:
            self.context.update(self.current, part)
        for one in fresh:
            one.taken = True

    def _view(self) -> AbstractContextManager[object]:
        """The network as of the current context."""
        newest = self._current == len(self.structure.tasks) - 1
        return nullcontext() if newest else self.structure.view(self._current)

    def _loss_of(self, seen: Seen, position: int) -> float:
        model = self.structure.model
        model.eval()
        with torch.no_grad(), self.structure.view(position):
            outputs = self._output(model, seen.inputs, position)
            return float(self._loss(outputs, seen.labels))

    def _output(self, model: nn.Module, inputs: Any, position: int | None = None) -> Tensor:
        if self._forward is not None:
            return self._forward(model, inputs, self._current if position is None else position)
        output: Tensor = default_forward(model, inputs)
        return output

    def _of_context(self, model: nn.Module, inputs: Any, position: int) -> Tensor:
        """The output for a position among the tasks that the context has seen."""
        task = self.structure.tasks.index(str(self.context.tasks[position]))
        return self._output(model, inputs, task)

    @property
    def _of_inputs(self) -> Forward:
        return lambda model, inputs: self._output(model, inputs)

    @property
    def _of_batch(self) -> Forward:
        return lambda model, batch: self._output(model, batch[0])

    @property
    def _batch_loss(self) -> Callable[[nn.Module, Any], Tensor]:
        return lambda model, batch: self._loss(self._output(model, batch[0]), batch[1])
