"""Selection of the model and of its parameters to measure, with refusals in words."""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from growmas.errors import ImportanceError
from growmas.importance.measurement import Samples, check_is_module

Parameters = Literal["all", "trainable"] | Collection[str]
"""All, those that require gradients, or names and shell patterns."""


def check_model(model: nn.Module) -> nn.Module:
    """Refuse models that cannot be measured; return the module inside a compiled one.

    Raises:
        ImportanceError: It is not a module, is scripted, or has parameters without data.
    """
    check_is_module(model)
    model = getattr(model, "_orig_mod", model)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            place = f"the submodule {name!r}" if name else "the model"
            raise ImportanceError(
                f"{place} is compiled by torch.jit ({type(module).__name__}), whose operations "
                "cannot be followed: give the Python module from which it was made"
            )
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ImportanceError(
                f"parameter {name!r} is lazy and has no shape yet: call the model once on a batch "
                "before it is measured"
            )
        if parameter.is_meta:
            raise ImportanceError(
                f"parameter {name!r} is on the meta device and has no values: load the weights "
                "first, for instance with model.to_empty(device=...) and load_state_dict"
            )
    return model


def selected(model: nn.Module, parameters: Parameters) -> dict[str, nn.Parameter]:
    """Return the floating-point parameters that are asked for, by qualified name.

    Raises:
        ImportanceError: An unknown word, a pattern that does not match any parameter, or a
            complex parameter.
    """
    named = dict(model.named_parameters())
    if isinstance(parameters, str):
        if parameters not in ("all", "trainable"):
            raise ImportanceError(
                f"parameters={parameters!r} is not known: give 'all', 'trainable', or several "
                f"names or patterns: ({parameters!r},)"
            )
        names = [n for n, p in named.items() if parameters == "all" or p.requires_grad]
    else:
        patterns = list(parameters)
        idle = [q for q in patterns if not any(n == q or fnmatchcase(n, q) for n in named)]
        if idle:
            raise ImportanceError(
                f"parameters={idle} does not match any parameter; the names are {', '.join(named)}"
            )
        names = [n for n in named if any(n == q or fnmatchcase(n, q) for q in patterns)]
    for name in names:
        if named[name].is_complex():
            raise ImportanceError(
                f"parameter {name!r} is complex ({named[name].dtype}), and importance is defined "
                "for real parameters: hold its real and imaginary parts, as torch.view_as_real "
                "gives them, or leave it out with parameters=(...)"
            )
    return {name: named[name] for name in names if named[name].is_floating_point()}


def check_samples(samples: Samples | None) -> Samples | None:
    """Refuse a `samples` that is not callable.

    Raises:
        ImportanceError: It is neither None nor callable.
    """
    if samples is not None and not callable(samples):
        raise ImportanceError(
            f"samples={samples!r:.80}: expected a function from a batch to its number of samples, "
            "such as samples=lambda batch: batch.num_graphs"
        )
    return samples


def in_own_dtypes(model: nn.Module, measured: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what was measured in the dtypes of the parameters."""
    named = dict(getattr(model, "_orig_mod", model).named_parameters())
    return {name: found.to(named[name].dtype) for name, found in measured.items()}
