"""Everything about a model, an optimizer, a penalty and units that must be exactly as before."""

from typing import Any

import torch
from torch import Tensor, nn


def bits(tensor: Tensor | None) -> Any:
    """A tensor as plain data: bit for bit, with its layout."""
    if tensor is None:
        return None
    plain = tensor.detach().cpu()
    if plain.dtype == torch.bfloat16:
        plain = plain.view(torch.int16)
    return (
        tensor.dtype,
        tuple(tensor.shape),
        tensor.stride(),
        plain.contiguous().numpy().tobytes(),
    )


def values(named: Any) -> dict[str, Any]:
    """Name -> bits, of parameters, buffers, Ω or anchors."""
    return {name: bits(tensor) for name, tensor in dict(named).items()}


def of_model(model: nn.Module) -> dict[str, Any]:
    """Objects, values, gradients, modes, hooks and attributes of a model."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        plain = {
            k: v for k, v in vars(module).items() if isinstance(v, int | float | str | tuple | None)
        }
        hooks = {k: list(v.items()) for k, v in vars(module).items() if k.endswith("_hooks")}
        found[f"module {name}"] = (set(vars(module)), plain, hooks, module.training)
        found[f"places {name}"] = {
            key: id(tensor) for key, tensor in {**module._parameters, **module._buffers}.items()
        }
    for name, p in model.named_parameters():
        hooks = [getattr(p, "_backward_hooks", None), p._post_accumulate_grad_hooks]
        grad = None if p.grad is None else (id(p.grad), bits(p.grad))
        found[f"parameter {name}"] = (type(p), bits(p), p.requires_grad, p.is_leaf, grad, hooks)
    for name, buffer in model.named_buffers():
        found[f"buffer {name}"] = bits(buffer)
    return found


def of_random_state() -> bytes:
    return torch.random.get_rng_state().numpy().tobytes()


def of_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Groups and state, parameters by identity."""
    groups = [
        {k: [id(p) for p in v] if k == "params" else v for k, v in group.items()}
        for group in optimizer.param_groups
    ]
    state = {
        id(parameter): {k: bits(v) if isinstance(v, Tensor) else v for k, v in entries.items()}
        for parameter, entries in optimizer.state.items()
    }
    return {"groups": groups, "state": state}


def of_optimizer_by_name(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Any]:
    """State by parameter name, whatever the objects."""
    names = {id(p): n for n, p in model.named_parameters()}
    return {
        names[id(p)]: {k: bits(v) if isinstance(v, Tensor) else v for k, v in entries.items()}
        for p, entries in optimizer.state.items()
    }


def of_penalty(mas: Any) -> dict[str, Any]:
    return {
        "omega": values(mas.omega),
        "anchor": values(mas.anchor),
        "settings": (mas.tasks, mas.strength, mas.accumulate, mas.normalize, mas.exclude),
    }


def of_groups(structure: Any) -> dict[str, Any]:
    return {
        name: (
            group.kind,
            group.unit_ids,
            group.births,
            group.next_id,
            [(m.layer, m.side, m.positions.tolist()) for m in group.members],
        )
        for name, group in structure.groups.items()
    }
