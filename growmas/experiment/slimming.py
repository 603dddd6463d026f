"""Slimming of one trained network: chosen, repaired, polished, measured and written down.

The network and its data are named: a model by the import path "module:name" of a class, function
or object, or "timm:name"; data by a built-in source, or an npz file with `x_train` (or `x`), and
if there are labels `y_train` (or `y`), `x_test` and `y_test`.
"""

import copy
import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from growmas.atomic_write import atomic_write
from growmas.batches import float_tensors
from growmas.data import load_source, source_names
from growmas.errors import DataError, RunError
from growmas.preserving import preserving
from growmas.structure import Plan, Structure
from growmas.suggestion import suggestion
from growmas.training.distillation import distil

BATCH = 250
EXAMPLES = 8


@dataclass(frozen=True, eq=False)
class Samples:
    """Data of a pruning.

    Attributes:
        inputs: [N, ...], unlabelled, from which units are chosen and repaired.
        test: [M, ...], on which the network is measured.
        labels: [M] of `test`; None if there are none.
    """

    inputs: Tensor
    test: Tensor
    labels: Tensor | None


@dataclass(frozen=True)
class Measurement:
    """A network as it was at one moment.

    Attributes:
        name: The moment.
        accuracy: Share of right answers; None without labels.
        agreement: Share of the answers of the network before that are the same.
        flops: FLOPs of one sample; None if they cannot be counted.
        parameters: Number of parameters.
        latency: Milliseconds for one sample, the median of several runs.
    """

    name: str
    accuracy: float | None
    agreement: float
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


def load_model(target: str, arguments: Mapping[str, Any], weights: Path | None) -> nn.Module:
    """Return the network that a target names, with weights from a file.

    Args:
        target: "module:name", or "timm:name".
        arguments: Keyword arguments of the class or function.
        weights: A safetensors file with the state dict; None for the weights it is made with.

    Raises:
        RunError: There is no such network, it cannot be made, or the weights do not fit.
    """
    package, _, name = target.partition(":")
    if not name:
        raise RunError(
            f"{target!r}: expected a network as module:name, such as mymodel:Net, or timm:name"
        )
    if package == "timm":
        made = _called(
            target, _imported(target, "timm").create_model, {"model_name": name, **arguments}
        )
    else:
        module = _imported(target, package)
        found = getattr(module, name, None)
        if found is None:
            raise RunError(f"{target!r}: {suggestion(name, vars(module), 'name')}")
        made = found if isinstance(found, nn.Module) else _called(target, found, arguments)
    if not isinstance(made, nn.Module):
        raise RunError(f"{target!r} gives {made!r:.80}: expected a torch.nn.Module")
    if weights is not None:
        _load_weights(made, weights)
    return made.eval()


def load_samples(source: str, images: int) -> Samples:
    """Return the data that a source names.

    Args:
        source: A built-in source, or an npz file.
        images: Number of unlabelled inputs to keep.

    Raises:
        DataError: There is no such source, or its arrays do not fit.
    """
    if source.endswith(".npz"):
        train, test, labels = _from_npz(Path(source))
    elif source in source_names():
        data = load_source(source)
        train, test, labels = data.train_inputs, data.test_inputs, data.test_labels
    else:
        hint = suggestion(source, source_names(), "source")
        raise DataError(f"--data {source}: neither an npz file nor a built-in source; {hint}")
    drawn = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:images]
    return Samples(train[drawn], test, labels)


def slim(
    model: nn.Module,
    samples: Samples,
    target: Mapping[str, float],
    *,
    steps: int = 0,
    round_to: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> Slimming:
    """Prune a network, repair it, and polish it against the network it was.

    Args:
        model: The network, which is changed.
        samples: Data; labels only measure.
        target: One of `ratio`, `flops` and `parameters`, as for `Structure.select`.
        steps: Steps of distillation; 0 for none.
        round_to: The channels that stay are a multiple.
        progress: Called after each step of distillation.
    """
    teacher = copy.deepcopy(model)
    structure = Structure(model, samples.inputs[:EXAMPLES])
    batches = list(torch.split(samples.inputs, BATCH))
    wanted = _answers(teacher, samples.test)

    def measurement(name: str) -> Measurement:
        given = _answers(model, samples.test)
        labels = samples.labels
        return Measurement(
            name,
            None if labels is None else float((given == labels).double().mean()),
            float((given == wanted).double().mean()),
            structure.cost().flops,
            structure.parameters,
            _latency(model, samples.test[:1]),
        )

    measured = [measurement("before")]
    plan = structure.select(batches, round_to=round_to, **target)  # type: ignore[arg-type]
    structure.apply(plan, reconstruct=batches)
    measured.append(measurement("pruned and repaired"))
    if steps:
        distil(structure, teacher, batches, steps=steps, progress=progress)
        measured.append(measurement(f"distilled, {steps} steps"))
    return Slimming(model.eval(), plan, tuple(measured))


def write_slim(slimming: Slimming, example: Tensor, out: Path) -> None:
    """Write the slim network: as safetensors, or as a program of torch.export (.pt2).

    The metadata of a safetensors file hold the plan: applied to a fresh network it gives the
    shapes of the tensors in the file.

    Raises:
        RunError: The name of the file ends otherwise.
    """
    if out.suffix == ".safetensors":
        from safetensors.torch import save_model

        metadata = {"format": "pt", "growmas_plan": slimming.plan.to_json()}
        with atomic_write(out) as fresh:
            save_model(slimming.model, str(fresh), metadata=metadata)
    elif out.suffix == ".pt2":
        program = torch.export.export(slimming.model, (example,))
        with atomic_write(out) as fresh, fresh.open("wb") as file:
            torch.export.save(program, file)
    else:
        raise RunError(f"-o {out}: expected a name that ends in .safetensors or .pt2")


def load_slim(model: nn.Module, example_inputs: Any, path: Path) -> Structure:
    """Give a fresh network the shapes and weights of a slim one; return its structure.

    Raises:
        RunError: The file was not written by `write_slim`.
    """
    from safetensors import safe_open
    from safetensors.torch import load_model as load_tensors

    with safe_open(str(path), framework="pt") as file:
        text = (file.metadata() or {}).get("growmas_plan")
    if text is None:
        raise RunError(f"{path} has no plan: expected a file that growmas prune wrote")
    structure = Structure(model, example_inputs)
    plan = Plan.from_json(text)
    if plan:
        structure.apply(plan)
    load_tensors(model, str(path))
    return structure


def settings(pairs: list[str]) -> dict[str, Any]:
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


def _imported(target: str, package: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")  # networks beside the caller, as for python -m
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RunError(f"{target!r}: {package} cannot be imported ({error})") from error


def _called(target: str, make: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        return make(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RunError(f"{target!r} cannot be made with {dict(arguments)}: {error}") from error


def _load_weights(model: nn.Module, weights: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(str(weights)))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(f"--weights {weights}: {error}") from error


def _from_npz(path: Path) -> tuple[Tensor, Tensor, Tensor | None]:
    try:
        with np.load(path) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError) as error:
        raise DataError(f"--data {path}: {error}") from error
    train = arrays.get("x_train", arrays.get("x"))
    if train is None or not len(train):
        raise DataError(
            f"--data {path}: expected an array x_train or x with samples, found "
            f"{', '.join(arrays) or 'none'}"
        )
    labels = arrays.get("y_test")
    test = arrays.get("x_test")
    if test is None:
        test, labels = train, arrays.get("y_train", arrays.get("y"))
    if labels is not None and len(labels) != len(test):
        raise DataError(f"--data {path}: {len(labels)} labels for {len(test)} samples")
    return _floats(train), _floats(test), labels


def _floats(images: Tensor) -> Tensor:
    """Return float32 inputs; bytes are divided by 255."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def _answers(model: nn.Module, inputs: Tensor) -> Tensor:
    with preserving(model), torch.no_grad():
        parts = [float_tensors(model(part))[0] for part in torch.split(inputs, BATCH)]
    return torch.cat(parts).argmax(-1)


def _latency(model: nn.Module, sample: Tensor, runs: int = 15) -> float:
    """Return the median time of a forward pass in milliseconds."""
    times = []
    with preserving(model), torch.no_grad():
        for _ in range(runs):
            start = time.perf_counter()
            model(sample)
            times.append(time.perf_counter() - start)
    return 1000 * sorted(times)[runs // 2]
