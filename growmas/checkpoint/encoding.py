"""States as JSON text and tensors: the content of a checkpoint."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from growmas.errors import CheckpointError

State = dict[str, Any]


def encode(value: Any, tensors: dict[str, Tensor], at: str) -> Any:
    """Return a value as JSON, with {"tensor": key} in the place of each tensor.

    Args:
        value: Mappings, lists, tuples, tensors and JSON values.
        tensors: Gets the tensors, under their place in the state.
        at: The place of the value.

    Raises:
        CheckpointError: Something else is in the state; names its place.
    """
    if isinstance(value, Tensor):
        key = _free_key(tensors, at)
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(value, Mapping):
        for key in value:
            if not (key is None or isinstance(key, str | int | float)):
                raise CheckpointError(
                    f"{at} has the key {key!r:.80}: expected text, a number or None"
                )
        return {
            "dict": [[key, encode(item, tensors, f"{at}/{key}")] for key, item in value.items()]
        }
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [encode(item, tensors, f"{at}/{i}") for i, item in enumerate(value)]}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise CheckpointError(f"{at} is a {type(value).__name__}, which a checkpoint cannot hold")


def decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that `encode` was given.

    Raises:
        CheckpointError: The JSON is not what `encode` returns, or a tensor is missing.
    """
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise CheckpointError("a list is not marked as such")
        return value
    if len(value) != 1:
        raise CheckpointError(
            f"expected one of tensor, dict, list and tuple, got {list(value)!r:.80}"
        )
    ((kind, content),) = value.items()
    if kind == "tensor":
        if not isinstance(content, str) or content not in tensors:
            raise CheckpointError(f"the tensor {content!r:.80} is missing")
        return tensors[content]
    if kind not in ("dict", "list", "tuple") or not isinstance(content, list):
        raise CheckpointError(f"expected one of tensor, dict, list and tuple, got {kind!r:.80}")
    if kind == "dict":
        return {_key(pair): decode(pair[1], tensors) for pair in content}
    items = [decode(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)


def _key(pair: Any) -> str | int | float | None:
    if isinstance(pair, list) and len(pair) == 2 and not isinstance(pair[0], list | dict):
        key: str | int | float | None = pair[0]
        return key
    raise CheckpointError(f"expected a pair of key and value, got {pair!r:.80}")


def _free_key(tensors: Mapping[str, Tensor], at: str) -> str:
    """Return a key for a place; places such as ("a/b",) and ("a", "b") read alike."""
    key, number = at, 1
    while key in tensors:
        number += 1
        key = f"{at}#{number}"
    return key
