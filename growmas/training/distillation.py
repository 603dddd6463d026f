"""Distillation: a network is trained to answer as a teacher does, on unlabelled data.

The loss of a batch is T² · KL(softmax(teacher / T) ‖ softmax(student / T)), the mean over samples
(Hinton, Vinyals and Dean, 2015, §2): a larger temperature T shows more of what the teacher knows
about wrong answers, and T² keeps the gradient's scale.
"""

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from growmas.batches import (
    Forward,
    batch_size,
    check_batches,
    check_forward,
    data_that_fits,
    default_forward,
    float_tensors,
    reusable,
    to_device,
)
from growmas.errors import DataError
from growmas.penalty import MAS, HardProtection
from growmas.preserving import preserving
from growmas.structure import Structure

Loss = Literal["kl", "mse"] | Callable[[Tensor, Tensor], Tensor]
"""Loss of an output [N, ...] of the student and the teacher's, in this order."""


_REMEMBERED = 2**26
"""Largest number of a teacher's outputs (256 MiB of float32) that are kept."""


@dataclass(frozen=True)
class Distillation:
    """A distillation that was carried out.

    Attributes:
        losses: Loss of each step, before the step and without penalty.
    """

    losses: tuple[float, ...]


def distil(
    model: nn.Module | Structure,
    teacher: nn.Module,
    batches: Iterable[Any],
    *,
    steps: int = 400,
    temperature: float = 2.0,
    loss: Loss = "kl",
    optimizer: Optimizer | None = None,
    lr: float = 3e-3,
    mas: MAS | None = None,
    protect: HardProtection | None = None,
    forward: Forward | None = None,
    progress: Callable[[int, float], None] | None = None,
    generator: torch.Generator | None = None,
) -> Distillation:
    """Train a network to answer as its teacher does, without labels, for instance after an edit.

    The network is trained in train mode, and then has the modes it had; the teacher answers in
    eval mode and stays bit-identical. Inside `structure.view(task)` the view is trained.

    Args:
        model: The network, or its structure.
        teacher: The network to follow, such as `copy.deepcopy(model)` from before an edit.
        batches: Unlabelled data, gone through again and again. A list is in random order, and the
            teacher answers each of its batches once, if there is no `forward`.
        steps: Number of optimizer steps.
        temperature: T of "kl".
        loss: "kl" for logits, "mse" for other outputs, or a function of both outputs. Several
            outputs are summed. The classes of logits lie along the last axis, and along the second
            of maps [N, classes, height, width].
        optimizer: Makes the steps, as it is; None takes Adam.
        lr: Learning rate without `optimizer`: reached after a tenth of the steps, and then lowered
            to 0 along a cosine.
        mas: Its penalty is added to the loss.
        protect: Its frozen entries stay bit-identical.
        forward: (model, batch) -> output, for batches of another kind or to choose a head.
        progress: Called with the number of steps made and the last loss.
        generator: CPU generator for the order of the batches; None takes torch's.

    Raises:
        DataError: There is no batch, a batch of one sample goes through BatchNorm, the teacher
            gives other outputs or such that are not finite, a loss is not finite, or an argument
            does not fit.

    Example:
        >>> import copy, torch, growmas
        >>> _ = torch.manual_seed(0)
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        >>> teacher, batches = copy.deepcopy(net), [torch.rand(16, 4), torch.rand(16, 4)]
        >>> structure = growmas.Structure(net, batches[0])
        >>> edit = structure.apply(growmas.Plan(prune={"0": range(5)}))
        >>> run = growmas.distil(structure, teacher, batches, steps=40)
        >>> sum(run.losses[-4:]) < sum(run.losses[:4])
        True
    """
    student = model.model if isinstance(model, Structure) else model
    _check_numbers(steps, temperature, lr)
    _check_parts(student, teacher, batches, optimizer, mas, protect, progress)
    check_forward(forward)
    measure = _loss(loss, temperature)
    chosen = optimizer or torch.optim.Adam(
        [p for p in student.parameters() if p.requires_grad], lr=lr
    )
    schedule = None if optimizer else LambdaLR(chosen, lambda step: _rate(step, steps))
    run, losses = forward or default_forward, []
    held = reusable(batches)
    answers = _Answers(teacher, run, remember=isinstance(held, list | tuple) and forward is None)
    with preserving(teacher), _training(student), _guarded(chosen, protect):
        for number, batch in itertools.islice(_cycled(held, student, generator), steps):
            with data_that_fits():
                wanted = answers(number, batch)
                given = float_tensors(run(student, batch))
            _check_outputs(given, wanted)
            value = torch.stack(
                [measure(mine, theirs) for mine, theirs in zip(given, wanted, strict=True)]
            ).sum()
            losses.append(_finite(value))
            chosen.zero_grad()
            (value if mas is None else value + mas.penalty()).backward()  # type: ignore[no-untyped-call]
            chosen.step()
            if schedule is not None:
                schedule.step()
            if progress is not None:
                progress(len(losses), losses[-1])
        chosen.zero_grad()
    return Distillation(tuple(losses))


def _rate(step: int, steps: int) -> float:
    """Return the share of the learning rate with which a step is made."""
    warm = (step + 1) / max(1, steps // 10)
    return min(1.0, warm) * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))


def _loss(loss: Loss, temperature: float) -> Callable[[Tensor, Tensor], Tensor]:
    if callable(loss):
        return loss
    if loss == "mse":
        return F.mse_loss
    if loss != "kl":
        raise DataError(f"loss={loss!r}: expected 'kl', 'mse' or a function of two outputs")

    def divergence(given: Tensor, wanted: Tensor) -> Tensor:
        axis = class_axis(given)
        if given.shape[axis] < 2:
            raise DataError(
                f"an output has the shape {tuple(given.shape)}, one number per answer, of which "
                "'kl' sees nothing: pass loss='mse'"
            )
        mine, theirs = (t.movedim(axis, -1).flatten(0, -2) / temperature for t in (given, wanted))
        value = F.kl_div(
            mine.log_softmax(-1), theirs.log_softmax(-1), reduction="batchmean", log_target=True
        )
        return temperature**2 * value

    return divergence


def class_axis(outputs: Tensor) -> int:
    """Return the axis along which classes lie: the second of maps [N, classes, H, W], or the last.

    Of [N, A, B] the last, as language models give logits for every token.
    """
    return 1 if outputs.dim() > 3 else -1


class _Answers:
    """A teacher's outputs, where they may be remembered those of a numbered batch only once.

    Args:
        teacher: The teacher, in eval mode.
        run: (model, batch) -> output.
        remember: Keep outputs, up to `_REMEMBERED` numbers.
    """

    def __init__(self, teacher: nn.Module, run: Forward, *, remember: bool) -> None:
        self._teacher, self._run = teacher, run
        self._room = _REMEMBERED if remember else 0
        self._known: dict[int, list[Tensor]] = {}

    def __call__(self, number: int, batch: Any) -> list[Tensor]:
        """Return the outputs for a batch."""
        if number in self._known:
            return self._known[number]
        with torch.no_grad():
            outputs = _finite_outputs(float_tensors(self._run(self._teacher, batch)))
        self._room -= sum(each.numel() for each in outputs)
        if self._room >= 0:
            self._known[number] = outputs
        return outputs


def _cycled(
    batches: Iterable[Any], model: nn.Module, generator: torch.Generator | None
) -> Iterator[tuple[int, Any]]:
    """Yield batches without end, those that are not empty, on the device of the model.

    Each has its number in a list; batches of another kind have numbers that mean nothing.

    Raises:
        DataError: There is none, or one has a single sample that BatchNorm cannot normalise.
    """
    device = next(model.parameters()).device
    norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    if isinstance(batches, list | tuple):
        for batch in batches:
            _check_size(batch, norm)
    while True:
        count = 0
        for number, batch in _in_order(batches, generator):
            _check_size(batch, norm)
            if batch_size(batch) != 0:
                count += 1
                yield number, to_device(batch, device)
        if not count:
            raise DataError("distil has no sample: give at least one batch with samples")


def _in_order(
    batches: Iterable[Any], generator: torch.Generator | None
) -> Iterable[tuple[int, Any]]:
    if not isinstance(batches, list | tuple):
        return enumerate(batches)
    return ((i, batches[i]) for i in torch.randperm(len(batches), generator=generator).tolist())


def _check_size(batch: Any, norm: bool) -> None:
    if norm and batch_size(batch) == 1:
        raise DataError(
            "a batch has one sample, by which BatchNorm cannot normalise in train mode: give "
            "batches of at least 2 samples"
        )


@contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.train()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _guarded(optimizer: Optimizer, protect: HardProtection | None) -> Iterator[None]:
    """Put frozen entries back after every step."""
    if protect is None:
        yield
        return
    handle = optimizer.register_step_post_hook(lambda *_: protect.restore_())
    try:
        yield
    finally:
        handle.remove()


def _check_numbers(steps: object, temperature: object, lr: object) -> None:
    if type(steps) is not int or not 1 <= steps <= sys.maxsize:
        raise DataError(f"steps={steps!r:.80}: expected a whole number of steps >= 1")
    for name, value in (("temperature", temperature), ("lr", lr)):
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise DataError(f"{name}={value!r:.80}: expected a number above 0")


def _check_parts(
    student: nn.Module,
    teacher: object,
    batches: Iterable[Any],
    optimizer: object,
    mas: object,
    protect: object,
    progress: object,
) -> None:
    if not isinstance(teacher, nn.Module) or teacher is student:
        raise DataError(
            "teacher: expected another network, such as copy.deepcopy(model) from before the edit, "
            f"got {'the network itself' if teacher is student else f'a {type(teacher).__name__}'}"
        )
    check_batches(batches)
    parts = {
        "optimizer": (optimizer, isinstance(optimizer, Optimizer), "an optimizer of torch"),
        "mas": (mas, isinstance(mas, MAS), "a growmas.MAS"),
        "protect": (protect, isinstance(protect, HardProtection), "a growmas.HardProtection"),
        "progress": (progress, callable(progress), "a function of the step and the loss"),
    }
    for name, (given, fits, expected) in parts.items():
        if given is not None and not fits:
            raise DataError(f"{name}={given!r:.80}: expected {expected}")
    learning = {id(each) for each in student.parameters() if each.requires_grad}
    if not learning:
        raise DataError("no parameter of the network learns: set requires_grad for some")
    if isinstance(optimizer, Optimizer):
        held = {id(each) for group in optimizer.param_groups for each in group["params"]}
        if not held & learning:
            raise DataError(
                "the optimizer holds no parameter of the network that learns: make it of "
                "model.parameters(), and pass it in followers= of every structure.apply"
            )


def _check_outputs(given: list[Tensor], wanted: list[Tensor]) -> None:
    mine, theirs = ([tuple(t.shape) for t in tensors] for tensors in (given, wanted))
    if mine != theirs or not mine:
        raise DataError(
            f"the teacher gives outputs of the shapes {theirs}, the network {mine}: give a teacher "
            "of the same outputs, or forward= that makes them alike"
        )


def _finite_outputs(wanted: list[Tensor]) -> list[Tensor]:
    """Return the teacher's outputs; bad data are noticed before norms of the student see them."""
    if not all(bool(each.isfinite().all()) for each in wanted):
        raise DataError(
            "the teacher's outputs are NaN or infinite: look for NaN in the data or in the "
            "teacher's parameters"
        )
    return wanted


def _finite(value: Tensor) -> float:
    number = float(value.detach())
    if not math.isfinite(number):
        raise DataError(
            f"the loss is {number}: look for NaN in the network's parameters, or lower the "
            "learning rate"
        )
    return number
