"""Checkpoints of networks that change shape: safetensors and JSON, no pickle.

A checkpoint is a folder with `state.json` and `tensors.safetensors`, and the one before as
`previous.json` and `previous.safetensors`. The JSON holds the state dicts, with {"tensor": key} in
the place of each tensor.
"""

from growmas.checkpoint.files import read_state, write_state
from growmas.checkpoint.saving import load, load_manager, save

__all__ = ["load", "load_manager", "read_state", "save", "write_state"]
