"""Preservation of a model's state while it is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def preserving(model: nn.Module) -> Iterator[None]:
    """Put `model` in eval mode; on exit, restore it bit for bit.

    The following is restored, also after an exception: every module's train/eval mode and forward
    hooks, every parameter's `requires_grad`, every buffer and its values, plain attributes and the
    entries of dicts among them (the caches that some models fill in eval mode), and the random
    state of the CPU and of the devices of the model. Gradients are not touched: use
    `torch.autograd.grad` inside.
    """
    modes = [(module, module.training) for module in model.modules()]
    trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    dicts: list[Any] = [
        held
        for module in model.modules()
        for held in (module._buffers, module._forward_hooks, *_plain_dicts(module))
        if isinstance(held, dict)  # TorchScript keeps its own, which code cannot change
    ]
    places = [(held, dict(held)) for held in dicts]
    attributes = [(vars(module), dict(vars(module))) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        try:
            model.eval()
            yield
        finally:
            for held, before in attributes:
                _restore(held, before)
            for module, mode in modes:
                module.training = mode
            for parameter, flag in trainable:
                parameter.requires_grad_(flag)
            for held, before in places:
                held.clear()
                held.update(before)
            with torch.no_grad():
                for buffer, value in buffers:
                    if not _same_bits(buffer, value):
                        buffer.copy_(value)


def _plain_dicts(module: nn.Module) -> Iterator[dict[Any, Any]]:
    """Give the dicts among the attributes of a module that are not torch's own."""
    for name, value in vars(module).items():
        if type(value) is dict and not name.startswith("_"):
            yield value


def _restore(held: dict[str, Any], before: dict[str, Any]) -> None:
    """Take attributes away that are new, and put others back; what is the same stays in place."""
    for name in held.keys() - before.keys():
        del held[name]
    for name, value in before.items():
        if held.get(name, held) is not value:
            held[name] = value


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.layout != torch.strided:
        parts = zip(_parts(a), _parts(b), strict=True)
        return all(p.shape == q.shape and _same_bits(p, q) for p, q in parts)
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def _parts(sparse: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the dense tensors that a sparse one consists of."""
    if sparse.layout == torch.sparse_coo:
        return sparse._indices(), sparse._values()
    by_row = sparse.layout in (torch.sparse_csr, torch.sparse_bsr)
    places = (
        (sparse.crow_indices(), sparse.col_indices())
        if by_row
        else (sparse.ccol_indices(), sparse.row_indices())
    )
    return *places, sparse.values()
