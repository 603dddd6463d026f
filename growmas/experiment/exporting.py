"""Networks of runs, written for other tools."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from growmas.atomic_write import atomic_write
from growmas.data import Stream
from growmas.data.numbers import as_numbers
from growmas.errors import GrowmasError, RunError
from growmas.experiment.features import frozen_network
from growmas.experiment.loading import LoadedRun
from growmas.experiment.networks import is_all_frozen
from growmas.experiment.streams import build_raw_stream
from growmas.models.headed import output_of

Format = Literal["pt2", "onnx", "safetensors"]

_TOLERANCE = 1e-5
_SAMPLES = 16
_OPSET = 18


@dataclass(frozen=True, eq=False)
class NetworkFile:
    """A network that was written, and checked against the run's own outputs.

    Attributes:
        path: Of the file.
        parameters: Number of parameters in it.
        difference: The largest difference of an output, relative to the largest output.
        about: Class names, shapes and other facts, as the file holds them.
    """

    path: Path
    parameters: int
    difference: float
    about: Mapping[str, Any]


class _Network(nn.Module):
    """Network from inputs, not yet normalised, to the logits of one head or of all."""

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        head: int | None,
        mean: Tensor | None,
        std: Tensor | None,
        features: nn.Module | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.features = features
        self._head = head
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, inputs: Tensor) -> Any:
        """Return logits [N, outputs], or a tuple of those of all heads."""
        if self.mean is not None and self.std is not None:
            inputs = (inputs - self.mean) / self.std
        if self.features is not None:
            inputs = output_of(self.features(inputs)).flatten(1)
        return self.model(inputs, self._head) if self._head is not None else self.model(inputs)


def export_network(
    run: LoadedRun, path: Path, *, format: Format, task: int | str | None = None
) -> NetworkFile:
    """Write the network of a run, and check the file against the network's own outputs.

    A file of format pt2 (`torch.export.load(path).module()`) or onnx opens without growmas; it
    reads inputs before normalisation, of any number of samples. One of format safetensors holds
    the tensors by name. All hold `growmas.json`: class names, shapes and the run's name.

    Args:
        run: Of `load_run`.
        path: Of the file to write.
        format: "pt2", "onnx" or "safetensors".
        task: Name or number of a task: the slim network as of the task, with its head alone.

    Raises:
        RunError: The network cannot be exported, or the file gives other outputs.
    """
    network, inputs, about = _assembled(run, task)
    with torch.no_grad():
        wanted = _as_tuple(network(inputs))
    with atomic_write(path) as fresh:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the exporters, about their own code
                found = _WRITERS[format](network, inputs, about, fresh)
        except (GrowmasError, OSError):
            raise
        except Exception as error:  # whatever the exporter of torch cannot follow
            text = " ".join(str(error).split())[:300]
            raise RunError(
                f"the network cannot be written as {format}: {type(error).__name__}: {text}"
            ) from error
        difference = _difference(wanted, found)
        if difference > _TOLERANCE:
            raise RunError(
                f"the {format} file gives other outputs than the network: a relative difference of "
                f"{difference:.1e}, above {_TOLERANCE:g}; try another format"
            )
    parameters = sum(each.numel() for each in network.parameters())
    return NetworkFile(path, parameters, difference, about)


def _assembled(run: LoadedRun, task: int | str | None) -> tuple[nn.Module, Tensor, dict[str, Any]]:
    """Return the whole network, some inputs for it, and the facts about it."""
    stream = run.stream
    frozen = isinstance(stream, Stream) and is_all_frozen(run.config.model)
    raw = build_raw_stream(run.config) if frozen else stream
    index = None if task is None else _index(run, task)
    model = run.structure.model if index is None else run.structure.extract(index)
    head, classes = _head(run, index)
    split = raw.tasks[0 if index is None else index].test
    rows = torch.arange(min(_SAMPLES, len(split)))
    stored = split.stored[rows if split.rows is None else split.rows[rows]]
    scaling = split.scaling
    network = _Network(
        model.eval(),
        head,
        scaling.mean if scaling else None,
        scaling.std if scaling else None,
        frozen_network(run.config, raw) if frozen and isinstance(raw, Stream) else None,
    ).eval()
    inputs = as_numbers(stored)
    for change in split.changes:
        inputs = change(inputs)
    about = {
        "name": run.config.name,
        "task": None if index is None else stream.tasks[index].name,
        "classes": classes,
        "input_shape": list(inputs.shape[1:]),
        "input_type": str(inputs.dtype).removeprefix("torch."),
        "normalised_inside": scaling is not None,
        "stream": stream.name,
        "stream_digest": run.metrics.stream_digest,
    }
    return network, inputs, about


def _head(run: LoadedRun, index: int | None) -> tuple[int | None, list[Any]]:
    """Return the head to use (None for all of them), and the class names of its outputs."""
    stream = run.stream
    names = getattr(stream, "classes", ())
    heads = getattr(run.structure.model, "heads", None) or getattr(
        run.structure.model, "networks", [None]
    )
    labels = [tuple(range(size)) for size in stream.head_sizes]
    per_task = len(heads) > 1

    def named(task: int) -> list[str]:
        chosen = stream.tasks[task].classes
        return [names[label] if label < len(names) else str(label) for label in chosen]

    if index is not None and per_task:
        return min(index, len(heads) - 1), named(index)
    if per_task:
        return None, [named(min(i, len(stream.tasks) - 1)) for i in range(len(heads))]
    if stream.scenario == "class":
        return 0, [names[i] if i < len(names) else str(i) for i in labels[0]]
    return 0, named(0 if index is None else index)


def _index(run: LoadedRun, task: int | str) -> int:
    names = [each.name for each in run.stream.tasks]
    if str(task) in names:
        return names.index(str(task))
    if str(task).isdigit() and int(task) < len(run.structure.tasks):
        return int(task)
    learnt = ", ".join(f"{i} ({name})" for i, name in enumerate(run.structure.tasks))
    raise RunError(f"there is no task {task!r} that was learnt; tasks: {learnt}")


def _write_pt2(
    network: nn.Module, inputs: Tensor, about: dict[str, Any], path: Path
) -> tuple[Tensor, ...]:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(network, (inputs,), dynamic_shapes=({0: batch},))
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={"growmas.json": json.dumps(about)})
    with path.open("rb") as file:
        return _as_tuple(torch.export.load(file).module()(inputs))


def _write_onnx(
    network: nn.Module, inputs: Tensor, about: dict[str, Any], path: Path
) -> tuple[Tensor, ...]:
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise RunError(
                f"format onnx needs the package {package}, which is not installed: pip install "
                "onnx onnxscript onnxruntime"
            )
    onnx: Any = import_module("onnx")
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        written = torch.onnx.export(
            network,
            (inputs,),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            input_names=["inputs"],
            opset_version=_OPSET,
            verbose=False,
        )
    if written is None:
        raise RunError("torch.onnx.export returned nothing")
    proto = written.model_proto
    onnx.helper.set_model_props(proto, {"growmas.json": json.dumps(about)})
    path.write_bytes(proto.SerializeToString())
    if find_spec("onnxruntime") is None:
        reference: Any = import_module("onnx.reference")
        outputs = reference.ReferenceEvaluator(proto).run(None, {"inputs": inputs.numpy()})
    else:
        onnxruntime: Any = import_module("onnxruntime")
        session = onnxruntime.InferenceSession(path.read_bytes())
        outputs = session.run(None, {"inputs": inputs.numpy()})
    return tuple(torch.from_numpy(output) for output in outputs)


def _write_safetensors(
    network: nn.Module, inputs: Tensor, about: dict[str, Any], path: Path
) -> tuple[Tensor, ...]:
    model = network.get_submodule("model")
    tensors = {name: each.detach().clone() for name, each in model.state_dict().items()}
    save_file(tensors, path, metadata={"growmas.json": json.dumps(about)})
    read = copy.deepcopy(network)
    own = read.get_submodule("model")
    with torch.no_grad():
        for each in own.state_dict().values():
            each.zero_()  # so that the outputs are those of the file
        own.load_state_dict(load_file(path))
        return _as_tuple(read(inputs))


_WRITERS = {"pt2": _write_pt2, "onnx": _write_onnx, "safetensors": _write_safetensors}


def _as_tuple(output: Any) -> tuple[Tensor, ...]:
    return tuple(
        each.detach() for each in (output if isinstance(output, tuple | list) else (output,))
    )


def _difference(wanted: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> float:
    if len(wanted) != len(found):
        return float("inf")
    largest = max(float(each.abs().max()) for each in wanted) or 1.0
    gaps = (float((a - b).abs().max()) for a, b in zip(wanted, found, strict=True))
    return max(gaps) / max(largest, 1.0)
