"""States as JSON text and tensors: the content of a checkpoint."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from growmas.errors import CheckpointError

State = dict[str, Any]

_PLAIN = frozenset({type(None), str, int, float, bool})
"""Types of values that JSON holds as they are."""


class Encoder:
    """Turns values into JSON and tensors.

    Attributes:
        tensors: The tensors found so far, under their places in the state. A tensor that is in two
            places is held once, and is not copied if it fills its own memory.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._keys: dict[object, str] = {}
        self._memory: set[int] = set()

    def encode(self, value: Any, at: str) -> Any:
        """Return a value as JSON, with {"tensor": key} in the place of each tensor.

        Args:
            value: Mappings, lists, tuples, tensors and JSON values; it must live as long as the
                encoder.
            at: The place of the value.

        Raises:
            CheckpointError: Something else is in the state; names its place.
        """
        if type(value) in _PLAIN:
            return value
        if isinstance(value, Tensor):
            return {"tensor": self._key_of(value.detach(), at)}
        if isinstance(value, Mapping):
            for key in value:
                if not (key is None or isinstance(key, str | int | float)):
                    raise CheckpointError(
                        f"{at} has the key {key!r:.80}: expected text, a number or None"
                    )
            pairs = ([key, self.encode(item, f"{at}/{key}")] for key, item in value.items())
            return {"dict": list(pairs)}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            if _PLAIN.issuperset(map(type, value)):  # long lists of units' numbers are fast so
                return {kind: list(value)}
            return {kind: [self.encode(item, f"{at}/{i}") for i, item in enumerate(value)]}
        if isinstance(value, str | int | float):
            return value
        raise CheckpointError(f"{at} is a {type(value).__name__}, which a checkpoint cannot hold")

    def _key_of(self, tensor: Tensor, at: str) -> str:
        if tensor.layout != torch.strided:
            raise CheckpointError(
                f"{at} is a {tensor.layout} tensor: a checkpoint holds dense ones"
            )
        memory = tensor.untyped_storage()
        place = (memory.data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
        same = (*place, tensor.dtype, tensor.device) if tensor.numel() else object()
        if same not in self._keys:
            key = self._keys[same] = _free_key(self.tensors, at)
            whole = tensor.is_contiguous() and memory.nbytes() == tensor.nbytes
            if tensor.device.type != "cpu":
                self.tensors[key] = tensor.cpu().contiguous()
            elif whole and memory.data_ptr() not in self._memory:
                self.tensors[key] = tensor
                self._memory.add(memory.data_ptr())
            else:
                self.tensors[key] = tensor.clone(memory_format=torch.contiguous_format)
        return self._keys[same]


class Decoder:
    """Turns what an `Encoder` made back into values.

    Args:
        tensors: Those of the encoder.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._used: set[str] = set()

    def decode(self, value: Any) -> Any:
        """Return the value that was encoded; a tensor that is in two places is copied.

        Raises:
            CheckpointError: The JSON is not what an encoder returns, or a tensor is missing.
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
            return self._tensor(content)
        if kind not in ("dict", "list", "tuple") or not isinstance(content, list):
            raise CheckpointError(f"expected one of tensor, dict, list and tuple, got {kind!r:.80}")
        if kind == "dict":
            return {_key(pair): self.decode(pair[1]) for pair in content}
        items = [self.decode(item) for item in content]
        return items if kind == "list" else tuple(items)

    def _tensor(self, key: Any) -> Tensor:
        if not isinstance(key, str) or key not in self._tensors:
            raise CheckpointError(f"the tensor {key!r:.80} is missing")
        if key in self._used:
            return self._tensors[key].clone()
        self._used.add(key)
        return self._tensors[key]


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
