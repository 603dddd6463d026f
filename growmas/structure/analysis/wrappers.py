"""What a model may be wrapped in: unwrapped where that is safe, refused by name where not."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils.parametrize import is_parametrized

from growmas.errors import SurgeryError
from growmas.structure.units.inventory import Inventory


def unwrap_model(model: nn.Module) -> nn.Module:
    """The model to operate on: itself, or what `torch.compile` was given.

    Raises:
        SurgeryError: It is no module; or lists every wrapper and layer that surgery would break.
    """
    if not isinstance(model, nn.Module):
        raise SurgeryError(f"expected a torch.nn.Module, got {model!r:.80}")
    inner = getattr(model, "_orig_mod", model)
    if isinstance(inner, torch.jit.ScriptModule):
        raise SurgeryError(
            "the model is TorchScript, which keeps its tensors: operate on it before scripting"
        )
    problems = [
        problem for name, module in inner.named_modules() if (problem := _problem(name, module))
    ]
    if problems:
        raise SurgeryError("; ".join(problems))
    return inner if isinstance(inner, nn.Module) else model


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Leave aside what `module.compile()` put in place, so that the analysis sees the code."""
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
    """Let compiled code be compiled anew for the new shapes.

    Guards would notice each new shape, but after `torch._dynamo.config.recompile_limit` of them
    compilation is given up silently. The caches of all models are cleared, there is no finer way.

    Args:
        given: What the structure was made of.
        inventory: Of what it operates on.
    """
    if given is not inventory.modules[""] or inventory.compiled:
        torch.compiler.reset()


def _problem(name: str, module: nn.Module) -> str:
    """Why a module cannot be operated on, or nothing."""
    where = repr(name) if name else "the model"
    kind = type(module).__name__
    if isinstance(module, DistributedDataParallel | DataParallel):
        return (
            f"{where} is wrapped in {kind}, which would not know its new parameters and silently "
            "stop averaging gradients. Unwrap, operate, wrap again:\n"
            "    model = wrapped.module\n"
            "    structure.apply(plan, followers=[optimizer])  # Structure(model, example_inputs)\n"
            f"    wrapped = {kind}(model)"
        )
    if kind == "FullyShardedDataParallel" or hasattr(module, "unshard"):
        return f"{where} is sharded (FSDP), so that no process holds its tensors: operate before"
    if hasattr(module, "_orig_mod"):
        return (
            f"{where} is a compiled part of the model, which the analysis cannot see into: "
            f"compile the whole model, or call .compile() on {where} instead of wrapping it"
        )
    if is_parametrized(module) or _has_rewriting_hook(module):
        return (
            f"{where} is parametrised (weight_norm, spectral_norm, a pruning mask): its weights "
            "are computed from tensors that surgery does not see. Make them plain first, with "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight') or its like"
        )
    return ""


def _has_rewriting_hook(module: nn.Module) -> bool:
    """Whether the hook-based weight_norm, spectral_norm or prune of torch.nn.utils is on it."""
    hooks = module._forward_pre_hooks.values()
    return any(type(hook).__module__.startswith("torch.nn.utils.") for hook in hooks)
