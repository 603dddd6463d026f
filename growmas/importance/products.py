"""Rules for products with a parameter: `x @ w`, `w @ x` and `torch.einsum`; and for `repeat`."""

from collections.abc import Mapping
from string import ascii_letters
from typing import Any

import torch
from torch import Tensor, nn

from growmas.importance.gradients import Gradient, PerSample, Products
from growmas.importance.operations import RULES, Bound, Rule

MOST_OPERANDS = 6
"""Operands of an einsum that are considered."""


def _bind_product(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    first, second = (*args, *kwargs.values(), None)[:2]
    if isinstance(first, nn.Parameter) and not isinstance(second, nn.Parameter):
        return {"input": second, "weight": first, "left": True}
    return {"input": first, "weight": second, "left": False}


def _is_matrix(bound: Bound) -> bool:
    """Return True if data that are not a parameter are multiplied with a matrix or a vector."""
    data, weight = bound["input"], bound["weight"]
    if not isinstance(data, Tensor) or not isinstance(weight, Tensor):
        return False
    if isinstance(data, nn.Parameter) or data.dim() < (3 if bound["left"] else 2):
        return False
    return weight.dim() == 2 or (weight.dim() == 1 and not bound["left"])


def _rows(bound: Bound, shape: torch.Size) -> int:
    return len(shape) - (2 if bound["left"] else bound["weight"].dim() - 1)


def _product(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate y = a W, y = W a for matrices a, or y = a w for a vector w."""
    seen, vector = bound["input"], bound["weight"].dim() == 1
    if vector:
        delta = delta.unsqueeze(-1)
    if bound["left"]:
        delta, seen = delta.mT, seen.mT
    left = delta.reshape(len(delta), 1, -1, delta.shape[-1])
    right = seen.reshape(len(seen), 1, -1, seen.shape[-1])
    return {"weight": Products(left, right, transposed=not bound["left"] and not vector)}


_PRODUCT = Rule(
    _bind_product, "input", ("weight",), _product, _is_matrix, rows=_rows, positions=True
)
for _function in (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm):
    RULES[_function] = _PRODUCT


def _bind_einsum(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the one operand that is not a parameter as `input`, and the letters of each."""
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = list(operands[0])
    written = equation if isinstance(equation, str) else ""
    inputs, _, result = written.replace(" ", "").partition("->")
    terms = inputs.split(",")
    data = [i for i, tensor in enumerate(operands) if not isinstance(tensor, nn.Parameter)]
    if len(data) != 1 or len(terms) != len(operands) or len(operands) > MOST_OPERANDS:
        return {"result": ""}
    bound: dict[str, Any] = {"result": result}
    for i, (term, tensor) in enumerate(zip(terms, operands, strict=True)):
        name = "input" if i == data[0] else f"operand {i}"
        bound |= {name: tensor, f"letters of {name}": term}
    return bound


def _prefix(bound: Bound) -> int:
    """Return the number of leading dimensions that data and result share and parameters lack."""
    data, result = bound["letters of input"], bound["result"]
    others = "".join(bound[f"letters of {name}"] for name in _operands(bound))
    same = 0
    while same < min(len(data), len(result)) and data[same] == result[same] not in others:
        same += 1
    return same


def _operands(bound: Bound) -> list[str]:
    return [f"operand {i}" for i in range(MOST_OPERANDS) if f"operand {i}" in bound]


def _is_plain(bound: Bound) -> bool:
    """Return True if an einsum has a result, and letters that occur once in each operand."""
    if not bound["result"] or not _operands(bound):
        return False
    terms = [bound["result"], bound["letters of input"]]
    terms += [bound[f"letters of {name}"] for name in _operands(bound)]
    plain = all(len(set(term)) == len(term) and term.isalpha() for term in terms)
    seen = [set("".join(terms[:i] + terms[i + 1 :])) for i in range(len(terms))]
    return (
        plain and all(set(t) <= s for t, s in zip(terms, seen, strict=True)) and _prefix(bound) > 0
    )


def _einsum(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate an einsum: for each parameter, the einsum of δ with all other operands."""
    same = _prefix(bound)
    data, result = bound["letters of input"][same:], bound["result"][same:]
    names = _operands(bound)
    taken = set(data + result).union(*(bound[f"letters of {name}"] for name in names))
    free = "".join(letter for letter in ascii_letters if letter not in taken)
    rows = free[: delta.dim() - len(result)]
    found: dict[str, Gradient] = {}
    for name in names:
        others = [other for other in names if other != name]
        terms = [rows + data, *(bound[f"letters of {other}"] for other in others), rows + result]
        equation = f"{','.join(terms)}->{rows[0]}{bound[f'letters of {name}']}"
        operands = (bound["input"], *(bound[other].detach() for other in others), delta)
        found[name] = PerSample(torch.einsum(equation, *operands))
    return found


RULES[torch.einsum] = Rule(
    _bind_einsum,
    "input",
    tuple(f"operand {i}" for i in range(MOST_OPERANDS)),
    _einsum,
    _is_plain,
    rows=lambda bound, shape: _prefix(bound),
    positions=True,
)


def _bind_repeat(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    sizes = args[1] if len(args) == 2 and isinstance(args[1], tuple | list) else args[1:]
    return {"weight": args[0], "sizes": tuple(sizes)}


def _is_broadcast(bound: Bound) -> bool:
    """Return True if `repeat` does what `expand` does: only dimensions of size 1 are repeated."""
    weight, sizes = bound["weight"], bound["sizes"]
    own = sizes[len(sizes) - weight.dim() :]
    return bool(sizes) and all(r == 1 or s == 1 for r, s in zip(own, weight.shape, strict=True))


_EXPAND = RULES[Tensor.expand]
RULES[Tensor.repeat] = Rule(
    _bind_repeat, None, ("weight",), _EXPAND.gradients, _is_broadcast, rows=_EXPAND.rows
)
