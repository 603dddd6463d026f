"""Fit of example inputs to a model: a diagnosis where the forward pass fails, by what is amiss."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import example_forward, map_tensors
from growmas.errors import SurgeryError
from growmas.failures import failure

_EXPECTED = (
    "They must be what the model is called with: a tensor, a tuple of positional or a dict of "
    "keyword arguments; or pass forward=lambda model, inputs: ..."
)


def check_materialised(model: nn.Module) -> None:
    """Refuse a model without values.

    Raises:
        SurgeryError: Parameters or buffers are on the meta device.
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    empty = [name for name, tensor in named if tensor.is_meta]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise SurgeryError(
            f"{empty[0]!r}{more} of the model are on the meta device, which holds no values, so "
            "nothing could be verified: first give the model memory and weights, with "
            "model.to_empty(device='cpu') and model.load_state_dict(...)"
        )


def why_not_analysed(error: Exception, model: nn.Module, example_inputs: Any, forward: Any) -> str:
    """Return the message for a network whose tracing failed.

    The forward pass is run once more, without being traced: if that fails too, it is the network
    or its inputs that are wrong, and the message says what.

    Args:
        error: The exception that the trace raised.
        model: The model, in eval mode.
        example_inputs: The inputs.
        forward: (model, example inputs) -> output.
    """
    begin = "the network could not be analysed on its example inputs: "
    if isinstance(error, SurgeryError):
        return f"{begin}{error}. {_EXPECTED}"
    names = {module: name for name, module in model.named_modules()}
    try:
        with torch.no_grad():
            forward(model, example_inputs)
    except Exception as plain:
        called = forward is example_forward
        problems = list(_signature_problem(model, example_inputs)) if called else []
        problems += [] if problems else _tensor_problems(model, example_inputs)
        remedy = "; ".join(problems) or _EXPECTED
        what = failure(plain, names)
        return f"{begin}the forward pass fails ({what}). {remedy[0].upper()}{remedy[1:]}"
    return (
        f"{begin}it runs, but not while it is traced ({failure(error, names)}). Run the layers "
        "outside of torch.func and of tensor subclasses, or pass forward=lambda model, inputs: ... "
        "that does"
    )


def _signature_problem(model: nn.Module, example_inputs: Any) -> Iterator[str]:
    positional, named = _arguments(example_inputs)
    try:
        signature = inspect.signature(model.forward)
        signature.bind(*positional, **named)
    except TypeError as error:
        given = ", ".join([*(["a tensor"] * len(positional)), *named]) or "nothing"
        yield (
            f"the model is called as {type(model).__name__}{signature}, and was given {given}: "
            f"{error}. Give a tuple of positional or a dict of keyword arguments, or pass "
            "forward=lambda model, inputs: ..."
        )
    except ValueError:  # a forward without a signature
        return


def _arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    return tuple(example_inputs) if isinstance(example_inputs, tuple | list) else (
        example_inputs,
    ), {}


def _tensor_problems(model: nn.Module, example_inputs: Any) -> list[str]:
    """Return what of device and dtype does not fit."""
    own, given = list(model.parameters()), _tensors(example_inputs)
    if not given or not own:
        return []
    devices, theirs = {p.device for p in own}, {t.device for t in given}
    problems = []
    if theirs - devices:
        problems.append(
            f"the example inputs are on {_listed(theirs)} and the model is on {_listed(devices)}: "
            f"move one to the other, such as inputs.to({str(own[0].device)!r})"
        )
    floats = {p.dtype for p in own if p.is_floating_point()}
    others = {t.dtype for t in given if t.is_floating_point()}
    if floats and others - floats:
        problems.append(
            f"the example inputs are {_listed(others)} and the parameters are {_listed(floats)}: "
            f"convert one, such as inputs.to({min(map(str, floats))})"
        )
    return problems + _first_layer_problems(model, given, others)


def _first_layer_problems(
    model: nn.Module, given: list[Tensor], floats: set[torch.dtype]
) -> list[str]:
    first = next((m for m in model.modules() if m._parameters), None)
    if isinstance(first, nn.Embedding | nn.EmbeddingBag):
        if given[0].is_floating_point():
            return [
                f"the first layer is an Embedding and got {given[0].dtype}: give ids, torch.long"
            ]
    elif first is not None and not floats:
        kinds, kind = _listed({t.dtype for t in given}), type(first).__name__
        return [
            f"the example inputs are {kinds}, and the first layer is a {kind}: convert them, such "
            "as inputs.float()"
        ]
    return []


def _tensors(nest: Any) -> list[Tensor]:
    """Return the tensors in example inputs."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(nest, note)
    return found


def _listed(things: set[Any]) -> str:
    return ", ".join(sorted(map(str, things)))
