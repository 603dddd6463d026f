"""A learner without task boundaries: a stream of batches in, answers at any time."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from growmas.contexts import GaussianContext, answer_by_context
from growmas.contexts.answering import TaskForward
from growmas.errors import ShiftError
from growmas.history.tracker import TopologyTracker
from growmas.manager import Budget, GrowByNeed, StructuralManager
from growmas.manager.parts import Norms
from growmas.manager.policy_sequence import Policies, as_policies
from growmas.penalty import MAS
from growmas.shift import Detector, PlateauDetector, ShiftEvent
from growmas.structure import Structure
from growmas.structure.initialisation.initialisation import Init
from growmas.training.execution import Execution
from growmas.training.task_free.checks import check_complete, check_numbers
from growmas.training.task_free.memory import StreamMemory
from growmas.training.task_free.outputs import ContextOutputs, in_train_mode
from growmas.training.task_free.recent import Recent, Rewind, Seen, buffers_kept
from growmas.training.task_free.recognition import recognise, update_context
from growmas.training.task_free.records import Action, Shift, StepDone
from growmas.training.trial import STEPS, Trials

HOLD = 10
"""Steps after which a batch is taken into the statistics of its context, if no shift came."""

TOGETHER = 5
"""Steps from one update of the statistics to the next: a few batches at once cost less."""


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
        detector: Detects plateaus and peaks.
        context: Statistics of the inputs of each context.
        tracker: Gets snapshots.
        memory: Recent batches, earlier states, and the usual loss of each context.
        outputs: Runs the network in each of its contexts.
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
        init: Init = "zero_out",
        trial: int = STEPS,
        execution: Execution | None = None,
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
            forward: (model, inputs, position of the context) -> output, for a head for each
                context; None calls the model with the inputs.
            contexts: Most contexts, at most the number of heads.
            steps: Gradient steps on each batch.
            recent: How many of the last batches are held, more than the detector's delay.
            samples: First samples of each batch that the context takes in.
            norms: The part of norms that views keep, see `StructuralManager`.
            init: How fresh units start, see `Structure.apply`.
            trial: Gradient steps of a trial for `GrowByNeed`.
            execution: Precision of steps, and compiled code; None for float32 and no compiling.

        Raises:
            ShiftError: A number is out of range, or a task has been begun.
        """
        check_numbers(contexts=(contexts, 1), steps=(steps, 1), samples=(samples, 1))
        check_numbers(recent=(recent, HOLD + TOGETHER), trial=(trial, 1))
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
        self.memory = StreamMemory(
            before=MAS(structure.model, strength=self.mas.strength),
            recent=Recent(recent),
            rewind=Rewind(structure.model),
        )
        self._policies = (grow, prune, budget)
        self._norms, self._init = norms, init
        self.manager = self._new_manager()
        self.tracker = tracker
        tries = any(isinstance(each, GrowByNeed) for each in as_policies("grow", grow))
        self._trials = Trials(optimizer, steps=trial) if tries else None
        self.outputs = ContextOutputs(structure, forward, loss)
        self._most = contexts
        self._steps, self._samples = steps, samples
        self._execution = Execution() if execution is None else execution

    def _new_manager(self) -> StructuralManager:
        """Make a manager of the network as wide as it is now."""
        grow, prune, budget = self._policies
        return StructuralManager(
            self.structure,
            mas=self.mas,
            optimizer=self.optimizer,
            grow=grow,
            prune=prune,
            budget=budget,
            followers=[self.memory.before],
            norms=self._norms,
        )

    @property
    def step(self) -> int:
        """Number of batches learnt."""
        return self.memory.step

    @property
    def current(self) -> str:
        """Name of the context that is being learnt; "" before the first batch."""
        return self.structure.tasks[self.memory.current] if self.memory.current >= 0 else ""

    def learn(self, inputs: Any, labels: Any, *, plain: Any = None) -> StepDone:
        """Learn one batch, and return what happened.

        Args:
            inputs: N samples, as `forward` or the model and the context take them.
            labels: As `loss` takes them.
            plain: The samples without random changes, for importance, growth and the context; None
                where `inputs` have none.

        Raises:
            ShiftError: The loss became NaN or infinite; the network was not updated.
        """
        memory = self.memory
        if memory.current < 0:
            self._open([(inputs if plain is None else plain, labels)])
        memory.rewind.keep(memory.step)
        with buffers_kept(self.structure.model):
            loss = self._loss(inputs, labels)
            first = float(loss.detach())
            event = self.detector.update(first)
        shift = None
        seen = Seen(memory.step, inputs, labels, first)
        if plain is not None:
            seen = replace(seen, inputs=plain, changed=inputs)
        if event is not None and event.kind == "peak":
            shift = self._peak(event, replace(seen))
            penalty = self._train(inputs, labels)
        else:
            penalty = self._train(inputs, labels, loss)
        memory.recent.add(seen)
        if memory.step % TOGETHER == 0:
            self._take_in(memory.recent.before(memory.step - HOLD + 1))
        if event is not None and event.kind == "plateau":
            shift = self._plateau(event)
        memory.step += 1
        return StepDone(memory.step - 1, first, self.current, shift, penalty)

    def predict(self, inputs: Any, *, together: bool = False) -> Tensor:
        """Return the output for inputs whose context is unknown, [N, C].

        The likeliest context's view answers each sample; the model is left bit-identical.

        Args:
            inputs: N samples.
            together: All come from one context.

        Raises:
            ShiftError: No batch has been learnt yet.
        """
        if self.memory.current < 0:
            raise ShiftError("predict before learn: no batch has been learnt yet")
        if not self.context.tasks:
            self._take_in(list(self.memory.recent))
        return answer_by_context(
            self.structure, self.context, inputs, forward=self._of_context, together=together
        ).logits

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors and JSON values, network, optimizer and parts included.

        Torch's global random state is left out.
        """
        generator = self.structure.generator
        return {
            "model": dict(self.structure.model.state_dict()),
            "structure": self.structure.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "mas": self.mas.state_dict(),
            "manager": self.manager.state_dict(),
            "detector": self.detector.state_dict(),
            "context": self.context.state_dict(),
            "generator": None if generator is None else generator.get_state(),
            "precision": self._execution.state_dict(),
            **self.memory.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, to the bit.

        Load into a learner made in the same way, from a network at its first widths.

        Raises:
            GrowmasError: Something is missing or does not fit.
        """
        check_complete(state, self.state_dict(), optional=("precision",))
        replaced = self.structure.load_state_dict(state["structure"])
        self.structure.model.load_state_dict(state["model"])
        for group in self.optimizer.param_groups:
            group["params"] = [replaced.get(p, p) for p in group["params"]]
        self.optimizer.load_state_dict(state["optimizer"])
        self.mas.load_state_dict(state["mas"])
        self.memory.load_state_dict(state)
        self.manager.close()
        self.manager = self._new_manager()
        self.manager.load_state_dict(state["manager"])
        self.detector.load_state_dict(state["detector"])
        self.context.load_state_dict(state["context"])
        self._execution.load_state_dict(state.get("precision", {}))
        if state["generator"] is not None and self.structure.generator is not None:
            self.structure.generator.set_state(state["generator"])

    # What events lead to

    def _plateau(self, event: ShiftEvent) -> Shift:
        if self.memory.settled:
            return Shift(event, "known", self.current, event.reason)
        self._settle(list(self.memory.recent))
        self.memory.rewind.forget()
        return Shift(event, "settled", self.current, event.reason)

    def _peak(self, event: ShiftEvent, last: Seen) -> Shift:
        old = self.memory.recent.before(event.onset)
        new = [*self.memory.recent.since(event.onset), last]
        self._take_in(old)
        if old:
            self.memory.levels[self.memory.current] = statistics.median(seen.loss for seen in old)
        self.memory.rewind.back_to(event.onset)
        likeliest, known = recognise(
            new,
            tasks=self.structure.tasks,
            context=self.context,
            outputs=self.outputs,
            memory=self.memory,
        )
        if known == self.memory.current:
            self.memory.recent.keep(old)
            self._learn_again(new)
            return Shift(event, "stayed", self.current, f"{event.reason}; its view still answers")
        self._leave(old)
        self.memory.recent.keep([])
        self.memory.rewind.forget()
        if known is not None:
            action: Action = "returned"
            self.memory.enter(known, settled=True)
        elif len(self.structure.tasks) < self._most:
            action = "opened"
            self._open([(seen.inputs, seen.labels) for seen in new])
        else:
            action = "full"
            self.memory.enter(likeliest, settled=True)
        self._learn_again(new)
        return Shift(event, action, self.current, event.reason)

    def _open(self, batches: Sequence[tuple[Any, Any]]) -> None:
        """Begin a context, and grow for it."""
        number = len(self.structure.tasks)
        name = f"context {number + 1}" + (f", step {self.memory.step}" if number else "")
        self.memory.enter(number, settled=False)
        self.memory.levels.append(float("inf"))

        def loss(model: nn.Module, batch: Any) -> Tensor:
            return self.outputs.loss(model, batch[0], batch[1], number)

        self.manager.begin_task(
            name,
            batches,
            forward=lambda model, batch: self.outputs.output(model, batch[0], number),
            loss=loss,
            trial=self._trials.on_batches(batches, loss) if self._trials else None,
            init=self._init,
        )

    def _settle(self, seen: Sequence[Seen]) -> None:
        """Consolidate on the last batches, prune, and take a snapshot."""
        self.memory.before.load_state_dict(self.mas.state_dict())
        self.manager.end_task(
            [s.inputs for s in seen], forward=self.outputs.forward(self.memory.current)
        )
        self.memory.settled = True
        self._snapshot()

    def _snapshot(self) -> None:
        if self.tracker is not None:
            self.tracker.snapshot(omega=self.mas.omega)

    def _leave(self, old: Sequence[Seen]) -> None:
        """Give a context that was new the importance measured at its end."""
        if not old or self.memory.current < len(self.structure.tasks) - 1:
            return
        if not self.memory.settled:
            self._settle(old)
        elif self.memory.before.tasks < self.mas.tasks:
            self.mas.load_state_dict(self.memory.before.state_dict())
            forward = self.outputs.forward(self.memory.current)
            self.mas.consolidate([s.inputs for s in old], forward=forward)
            if self._norms is not None:
                self.structure.remember_norms(affine=self._norms == "affine")
            self._snapshot()
        self.memory.before.load_state_dict(self.mas.state_dict())

    # Learning

    def _learn_again(self, seen: Sequence[Seen]) -> None:
        """Learn the batches since a peak began, except for the last, in their own context."""
        for one in seen[:-1]:
            self._train(one.learnt, one.labels)
            self.memory.recent.add(replace(one))
        self._take_in(self.memory.recent.since(seen[0].step))

    def _train(self, inputs: Any, labels: Any, loss: Tensor | None = None) -> float:
        """Take the gradient steps on one batch, and return the mean penalty."""
        penalty = 0.0
        for _ in range(self._steps):
            loss = self._loss(inputs, labels) if loss is None else loss
            held = self._penalty.penalty_grad_
            added, stepped = self._execution.step(loss, self.optimizer, held)
            penalty += float(added) / self._steps
            if stepped:
                self.manager.replace_low()
            loss = None
        return penalty

    def _loss(self, inputs: Any, labels: Any) -> Tensor:
        """Return the mean loss of a batch in train mode, through the view of the context."""
        model, current = in_train_mode(self.structure.model), self.memory.current
        newest = current == len(self.structure.tasks) - 1
        with self.outputs.view(current), self._execution.forward(whole=newest):
            return self.outputs.loss(model, inputs, labels, current)

    @property
    def _penalty(self) -> MAS:
        """The penalty of the contexts before, while a new one is learnt; else of all."""
        newest = self.memory.current == len(self.structure.tasks) - 1
        return self.memory.before if newest and self.memory.settled else self.mas

    def _take_in(self, seen: Sequence[Seen]) -> None:
        """Update the statistics of the current context with batches it has not seen."""
        update_context(self.context, self.current, seen, samples=self._samples)

    def _of_context(self, model: nn.Module, inputs: Any, position: int) -> Tensor:
        """Return the output for a position among the tasks that the context has seen."""
        task = self.structure.tasks.index(str(self.context.tasks[position]))
        return self.outputs.output(model, inputs, task)
