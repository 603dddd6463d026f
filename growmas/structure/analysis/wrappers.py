"""Wrappers of a model: taken off where that is safe, refused by name where it is not."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from growmas.errors import SurgeryError
from growmas.structure.units.inventory import Inventory


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model to operate on: itself, or what `torch.compile` was given.

    Raises:
        SurgeryError: It is not a module, or has wrappers or layers that surgery would break; all
            of them are listed.
    """
    if not isinstance(model, nn.Module):
        raise SurgeryError(f"expected a torch.nn.Module, got {model!r:.80}")
    inner = getattr(model, "_orig_mod", model)
    if isinstance(inner, torch.jit.ScriptModule):
        raise SurgeryError(
            "the model is TorchScript, which keeps its tensors: operate on it before scripting"
        )
    problems: dict[str, str] = {}
    for name, module in inner.named_modules():
        problem = _problem(name, module)
        if problem and not any(name.startswith(f"{above}.") for above in problems):
            problems[name] = problem
    if problems:
        raise SurgeryError("; ".join(problems.values()))
    return inner if isinstance(inner, nn.Module) else model


_REMEDY = (
    "operate on the whole network before it is divided; of one that is trained already, get the "
    "whole state with torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
    "options=StateDictOptions(full_state_dict=True)), load it into a plain network, operate on "
    "that, and divide it again. Data-parallel training needs no division, see docs/distributed.md"
)
_NOT_WHOLE = f"its tensors are not whole: {_REMEDY}"


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Set aside what `module.compile()` put in place, so that the analysis sees the code."""
    compiled = [m for m in model.modules() if "_compiled_call_impl" in vars(m)]
    kept = [(module, module._compiled_call_impl) for module in compiled]
    try:
        for module, _ in kept:
            module._compiled_call_impl = None
        yield
    finally:
        for module, implementation in kept:
            module._compiled_call_impl = implementation


def recompile_after_edit(given: nn.Module, inventory: Inventory) -> None:
    """Let compiled code be compiled again for the new shapes.

    Guards would notice each new shape, but after `torch._dynamo.config.recompile_limit` of them
    compilation is given up silently. The caches of all models are cleared: there is no finer way.

    Args:
        given: The model that the structure was made of, as the user gave it.
        inventory: The inventory of the model that it operates on.
    """
    if given is not inventory.modules[""] or inventory.compiled:
        torch.compiler.reset()


def _is_divided(parameter: nn.Parameter) -> bool:
    """Return True for a DTensor, of which each process holds a part."""
    return type(parameter).__name__ == "DTensor" or hasattr(parameter, "device_mesh")


def _problem(name: str, module: nn.Module) -> str:
    """Return why a module cannot be operated on, or nothing."""
    where = repr(name) if name else "the model"
    kind = type(module).__name__
    if isinstance(module, DistributedDataParallel | DataParallel):
        return (
            f"{where} is wrapped in {kind}, which would not see the new parameters and "
            "silently stop averaging gradients. Unwrap, operate, wrap again:\n"
            "    model = wrapped.module\n"
            "    structure.apply(plan, followers=[optimizer])  # Structure(model, example_inputs)\n"
            f"    wrapped = {kind}(model)"
        )
    if kind == "FullyShardedDataParallel" or hasattr(module, "unshard"):
        return f"{where} is sharded (FSDP), {_NOT_WHOLE}"
    if kind == "DeepSpeedEngine":
        return f"{where} is a DeepSpeedEngine, which may partition tensors: {_REMEDY}"
    divided = [each for each, p in module.named_parameters(recurse=False) if _is_divided(p)]
    if divided:
        path = f"{name}.{divided[0]}" if name else divided[0]
        return f"{path!r} is a DTensor (tensor parallel, or fully_shard), {_NOT_WHOLE}"
    if isinstance(module, torch.jit.ScriptModule):
        return (
            f"{where} is TorchScript, which keeps its tensors and cannot be traced: operate before "
            "scripting it"
        )
    if hasattr(module, "_orig_mod"):
        return (
            f"{where} is a compiled part of the model, which the analysis cannot see into: "
            f"compile the whole model, or call .compile() on {where} instead of wrapping it"
        )
    return ""
