"""FLOP formulas of operations that `torch.utils.flop_counter` does not count.

Two for a multiplication and addition, as there. Without these formulas attention is counted on a
GPU but not on a CPU, LSTMs are not counted at all, and a matrix times a vector costs nothing.
"""

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

Formula = Callable[..., int]
"""(arguments of the operation, out_val=result) -> FLOPs."""


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    counted = sdpa_flop_count(query.shape, key.shape, value.shape)  # type: ignore[no-untyped-call]
    return int(counted)


def _matrix_vector(matrix: Tensor, vector: Tensor, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _added_matrix_vector(given: Tensor, matrix: Tensor, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _bilinear(first: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return 2 * prod(first.shape[:-1]) * weight.numel()


def _rnn_on_cpu(given: Tensor, rows: Tensor, recurrent: Tensor, *_: Any, **__: Any) -> int:
    """Count one layer in one direction; the input is [L, N, F]."""
    return 2 * prod(given.shape[:-1]) * (rows.numel() + recurrent.numel())


def _rnn_on_gpu(given: Tensor, weights: Iterable[Tensor], *_: Any, **__: Any) -> int:
    """Count all layers; the input is [L, N, F], or [steps, F] if it was packed."""
    return 2 * prod(given.shape[:-1]) * sum(w.numel() for w in weights if w.dim() > 1)


def _sparse(dense: Formula, operand: int) -> Formula:
    """Count a product by the entries that a sparse operand holds, others as a dense product."""

    def formula(*arguments: Any, **options: Any) -> int:
        first, second = arguments[operand], arguments[operand + 1]
        for sparse, other, axis in ((first, second, -1), (second, first, 0)):
            if sparse.layout != torch.strided:
                return 2 * int(sparse._nnz()) * int(other.shape[axis])
        return int(dense(*arguments, **options))

    return formula


def _formulas() -> dict[Any, Formula]:
    aten = torch.ops.aten
    found: dict[Any, Formula] = {
        aten.mv: _matrix_vector,
        aten.dot: _matrix_vector,
        aten.vdot: _matrix_vector,
        aten.addmv: _added_matrix_vector,
        aten._trilinear: _bilinear,
        aten._cudnn_rnn: _rnn_on_gpu,
        aten.mm: _sparse(flop_registry[aten.mm], 0),
        aten.addmm: _sparse(flop_registry[aten.addmm], 1),
    }
    some = {
        "_scaled_dot_product_flash_attention_for_cpu": _attention,
        "_scaled_dot_product_fused_attention_overrideable": _attention,
        "mkldnn_rnn_layer": _rnn_on_cpu,
        "_sparse_addmm": _sparse(flop_registry[aten.addmm], 1),
    }
    found |= {getattr(aten, name): each for name, each in some.items() if hasattr(aten, name)}
    for formula in found.values():
        formula._get_raw = True  # type: ignore[attr-defined]  # takes tensors, not shapes
    return found


FORMULAS = _formulas()
"""Operation -> formula, for `FlopCounterMode(custom_mapping=)`."""
