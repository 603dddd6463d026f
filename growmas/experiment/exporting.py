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
from growmas.errors import GrowmasError, RunError
from growmas.experiment.loading import LoadedRun
from growmas.experiment.run_network import RunNetwork, run_network

Format = Literal["pt2", "onnx", "safetensors"]

_TOLERANCE = 1e-5
_OPSET = 18
_MOST_SAMPLES = 2**31 - 1  # of a batch; torch 2.6 cannot export BERT without an upper bound


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


def export_network(
    run: LoadedRun, path: Path, *, format: Format, task: int | str | None = None
) -> NetworkFile:
    """Write the network of a run, and check the file against the network's own outputs.

    A file of format pt2 (`torch.export.load(path).module()`) or onnx opens without growmas; it
    reads inputs before normalisation (unless the tasks change inputs, such as by permutations), of
    any number of samples. One of format safetensors holds the tensors by name. All hold
    `growmas.json`: class names, shapes and the run's name.

    Args:
        run: Of `load_run`.
        path: Of the file to write.
        format: "pt2", "onnx" or "safetensors".
        task: Name or number of a task: the slim network as of the task, with its head alone.

    Raises:
        RunError: The network cannot be exported, or the file gives other outputs.
    """
    whole = run_network(run, task)
    about = {**whole.about, "stream_digest": run.metrics.stream_digest}
    return write_network(whole.network, whole.examples, path, format=format, about=about)


def write_network(
    network: nn.Module, inputs: Tensor, path: Path, *, format: Format, about: Mapping[str, Any]
) -> NetworkFile:
    """Write a network, and check the file against the network's own outputs.

    Args:
        network: In eval mode; gives a tensor or a tuple of tensors.
        inputs: Some inputs, on which outputs are compared.
        path: Of the file to write.
        format: "pt2", "onnx" or "safetensors".
        about: Facts for `growmas.json`.

    Raises:
        RunError: The network cannot be exported, or the file gives other outputs.
    """
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


def _write_pt2(
    network: nn.Module, inputs: Tensor, about: Mapping[str, Any], path: Path
) -> tuple[Tensor, ...]:
    batch = torch.export.Dim("batch", min=1, max=_MOST_SAMPLES)
    program = torch.export.export(
        network,
        (inputs,),
        dynamic_shapes=({0: batch},),
        strict=False,  # the default only since torch 2.7
    )
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={"growmas.json": json.dumps(dict(about))})
    with path.open("rb") as file:
        return _as_tuple(torch.export.load(file).module()(inputs))


def _write_onnx(
    network: nn.Module, inputs: Tensor, about: Mapping[str, Any], path: Path
) -> tuple[Tensor, ...]:
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise RunError(
                f"format onnx needs the package {package}, which is not installed: pip install "
                "onnx onnxscript onnxruntime"
            )
    onnx: Any = import_module("onnx")
    batch = torch.export.Dim("batch", min=1, max=_MOST_SAMPLES)
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
    onnx.helper.set_model_props(proto, {"growmas.json": json.dumps(dict(about))})
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
    network: nn.Module, inputs: Tensor, about: Mapping[str, Any], path: Path
) -> tuple[Tensor, ...]:
    own = _saved(network)
    tensors = {name: each.detach().clone() for name, each in own.state_dict().items()}
    save_file(tensors, path, metadata={"format": "pt", "growmas.json": json.dumps(dict(about))})
    read = copy.deepcopy(network)
    own = _saved(read)
    with torch.no_grad():
        for each in own.state_dict().values():
            each.zero_()  # so that the outputs are those of the file
        own.load_state_dict(load_file(path))
        return _as_tuple(read(inputs))


def _saved(network: nn.Module) -> nn.Module:
    """Return the part of a network whose tensors are saved: of a run, what it learnt."""
    return network.model if isinstance(network, RunNetwork) else network


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
