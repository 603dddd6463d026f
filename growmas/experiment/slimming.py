"""Slimming of one trained network: chosen, repaired, polished, measured and written down."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from growmas.atomic_write import atomic_write
from growmas.batches import float_tensors
from growmas.data import batches
from growmas.errors import RunError
from growmas.experiment.exporting import write_network
from growmas.experiment.models import keep_frozen
from growmas.experiment.prune_subject import Subject, TestData
from growmas.preserving import preserving
from growmas.structure import Plan, Structure
from growmas.structure.inspection.latency import latencies
from growmas.training.distillation import Loss, class_axis, distil

BATCH = 250
EXAMPLES = 8
TIMED = 15  # forward passes
FORMATS = (".safetensors", ".pt2", ".onnx")


@dataclass(frozen=True)
class Measurement:
    """A network as it was at one moment.

    Attributes:
        name: The moment.
        accuracy: Share of right answers; None without labels, or without classes.
        agreement: Share of the answers of the network before that are the same; None without
            classes, where an output is one number.
        flops: FLOPs of one sample; None if they cannot be counted.
        parameters: Number of parameters.
        latency: Milliseconds for one sample, the median of several runs.
    """

    name: str
    accuracy: float | None
    agreement: float | None
    flops: int | None
    parameters: int
    latency: float


@dataclass(frozen=True)
class Slimming:
    """A network that was pruned.

    Attributes:
        model: The network, smaller.
        plan: What was removed; units by id in a fresh network.
        measured: Before, after, and after the polish.
    """

    model: nn.Module
    plan: Plan
    measured: tuple[Measurement, ...]


def slim(
    subject: Subject,
    target: Mapping[str, float],
    *,
    steps: int = 0,
    round_to: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> Slimming:
    """Prune a network, repair it, and polish it against the network it was.

    Layers that are frozen stay as they are, unless all of them are.

    Args:
        subject: The network, which is changed, and its data; labels only measure.
        target: One of `ratio`, `flops` and `parameters`, as for `Structure.select`.
        steps: Steps of distillation; 0 for none.
        round_to: The channels that stay are a multiple.
        progress: Called after each step of distillation.

    Raises:
        RunError: No unit can go, or so little is asked for that none would.
    """
    model = subject.network
    teacher = copy.deepcopy(model)
    examples = subject.inputs[:EXAMPLES]
    structure = Structure(model, examples)
    if any(each.requires_grad for each in model.parameters()):
        keep_frozen(structure)
    unlabelled = list(torch.split(subject.inputs, BATCH))
    wanted = [_answers(teacher, test) for test in subject.tests]
    classes = all(answers is not None for answers in wanted)

    def measurement(name: str) -> Measurement:
        given = [_answers(model, test) for test in subject.tests]
        pairs = list(zip(given, subject.tests, strict=True))
        return Measurement(
            name,
            _share([(a, test.split.labels) for a, test in pairs if test.labelled]),
            _share(list(zip(given, wanted, strict=True))),
            structure.cost().flops,
            structure.parameters,
            latencies([model], lambda model: model(examples[:1]), TIMED)[0],
        )

    measured = [measurement("before")]
    plan = structure.select(unlabelled, round_to=round_to, **target)  # type: ignore[arg-type]
    if not plan:
        raise RunError(_nothing_to_remove(structure, plan, target))
    structure.apply(plan, reconstruct=unlabelled)
    measured.append(measurement("pruned and repaired"))
    if steps:
        loss: Loss = "kl" if classes else "mse"
        distil(structure, teacher, unlabelled, steps=steps, loss=loss, progress=progress)
        measured.append(measurement(f"distilled, {steps} steps"))
    return Slimming(model.eval(), plan, tuple(measured))


class _Logits(nn.Module):
    """Network whose outputs are plain tensors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the logits, or a tuple of them."""
        found = float_tensors(self.network(inputs))
        return found[0] if len(found) == 1 else tuple(found)


def write_slim(slimming: Slimming, subject: Subject, out: Path) -> None:
    """Write the slim network: as safetensors, or as a program of torch.export or ONNX.

    A .pt2 or .onnx file opens without growmas, takes any number of samples, and is checked against
    the network's own outputs. The metadata of a safetensors file hold the plan: applied to a fresh
    network it gives the shapes of the tensors in the file, see `load_slim`.

    Raises:
        RunError: The name of the file ends otherwise, or the network cannot be exported.
    """
    check_out(out)
    if out.suffix == ".safetensors":
        metadata = {
            "format": "pt",
            "growmas_plan": slimming.plan.to_json(),
            "growmas.json": json.dumps(dict(subject.about)),
        }
        with atomic_write(out) as fresh:
            try:
                save_model(slimming.model, str(fresh), metadata=metadata)
            except SafetensorError as error:
                raise OSError(str(error)) from error
        return
    format = "pt2" if out.suffix == ".pt2" else "onnx"
    network = _Logits(slimming.model).eval()
    write_network(
        network,
        subject.inputs[:EXAMPLES],
        out,
        format=format,  # type: ignore[arg-type]
        about=subject.about,
    )


def check_out(out: Path) -> None:
    """Refuse a file that cannot be written, before the work is done.

    Raises:
        RunError: Its name does not tell a format, or its folder does not exist.
    """
    if out.suffix not in FORMATS:
        raise RunError(f"-o {out}: expected a name that ends in .safetensors, .pt2 or .onnx")
    if not out.parent.is_dir():
        raise RunError(f"-o {out}: there is no folder {out.parent}: create it, or choose another")
    if out.is_dir():
        raise RunError(f"-o {out}: is a folder: give the name of a file")


def load_slim(model: nn.Module, example_inputs: Any, path: Path) -> Structure:
    """Give a fresh network the shapes and weights of a slim one; return its structure.

    Raises:
        RunError: The file was not written by `write_slim`.
    """
    with safe_open(str(path), framework="pt") as file:
        text = (file.metadata() or {}).get("growmas_plan")
    if text is None:
        raise RunError(f"{path} has no plan: expected a file that growmas prune wrote")
    structure = Structure(model, example_inputs)
    plan = Plan.from_json(text)
    if plan:
        structure.apply(plan)
    load_model(model, str(path))
    return structure


def settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Return arguments given as key=value, where values are JSON or else text.

    Raises:
        RunError: Something is not of that form.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise RunError(f"--arg {pair}: expected key=value, such as width=32")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


def _answers(model: nn.Module, test: TestData) -> Tensor | None:
    """Return the most likely class of each sample; None where the output is one number."""
    with preserving(model), torch.no_grad():
        parts = [
            float_tensors(model(inputs))[test.output] for inputs, _ in batches(test.split, BATCH)
        ]
    outputs = torch.cat(parts)
    axis = class_axis(outputs)
    return outputs.argmax(axis) if outputs.shape[axis] > 1 else None


def _share(pairs: Sequence[tuple[Tensor | None, Tensor | None]]) -> float | None:
    """Return the share of equal answers, the mean over pairs; None where they do not compare.

    So it is with one label for a sample, and an answer for each pixel or token of it.
    """
    known = [
        float((a == b).double().mean())
        for a, b in pairs
        if a is not None and b is not None and a.shape == b.shape
    ]
    return sum(known) / len(known) if pairs and len(known) == len(pairs) else None


def _nothing_to_remove(structure: Structure, plan: Plan, target: Mapping[str, float]) -> str:
    asked = " and ".join(f"--{name} {value:g}" for name, value in target.items())
    if not structure.groups:
        reasons = [f"{name}: {reason}" for name, reason in structure.fixed.items()]
        return f"no unit of the network can be removed ({'; '.join(reasons[:3])})"
    skipped = [f"{name}: {reason}" for name, reason in plan.cause.get("skipped", {}).items()]
    more = f" ({'; '.join(skipped[:3])})" if skipped else ""
    return f"{asked} removes no unit{more}: ask for a smaller network, or a smaller --round-to"
