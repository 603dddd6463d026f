"""Sources of images, and the streams of tasks made of them.

Loaded on first use, so that a config can ask for the names of sources without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from growmas.data.batching import batches
    from growmas.data.heads import own_heads
    from growmas.data.names import Scenario
    from growmas.data.sources import (
        Dataset,
        hold_out,
        load_source,
        register_source,
        source_names,
    )
    from growmas.data.streams import (
        Split,
        Stream,
        Task,
        permuted_stream,
        sources_stream,
        split_stream,
    )
    from growmas.data.task_free import TaskFreeStream, drifting_stream, task_free_stream

__all__ = [
    "Dataset",
    "Scenario",
    "Split",
    "Stream",
    "Task",
    "TaskFreeStream",
    "batches",
    "drifting_stream",
    "hold_out",
    "load_source",
    "own_heads",
    "permuted_stream",
    "register_source",
    "source_names",
    "sources_stream",
    "split_stream",
    "task_free_stream",
]

_HOMES = {
    "Dataset": "sources",
    "Scenario": "names",
    "Split": "streams",
    "Stream": "streams",
    "Task": "streams",
    "TaskFreeStream": "task_free",
    "batches": "batching",
    "drifting_stream": "task_free",
    "hold_out": "sources",
    "load_source": "sources",
    "own_heads": "heads",
    "permuted_stream": "streams",
    "register_source": "sources",
    "source_names": "sources",
    "sources_stream": "streams",
    "split_stream": "streams",
    "task_free_stream": "task_free",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'growmas.data' has no attribute {name!r}")
    return getattr(import_module(f"growmas.data.{_HOMES[name]}"), name)
