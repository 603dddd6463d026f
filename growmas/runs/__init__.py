"""Run directories: what they hold, read and written in one place.

A run directory holds `config.yaml` (the experiment with all defaults), `metrics.json` (rewritten
after every task), `history.db` (the topology, written as it changes) and `checkpoint/` (the last
state); the one of a task-free stream also holds `stream.jsonl` (losses and shifts, step by step).

Nothing here imports torch.
"""

from growmas.runs.comparison import Comparison, compare
from growmas.runs.directory import RunDirectory
from growmas.runs.finding import find_history, find_run
from growmas.runs.listing import RunEntry, list_runs
from growmas.runs.result import RunResult, read_result
from growmas.runs.trace import StreamEvent, StreamTrace, TraceWriter, read_trace

__all__ = [
    "Comparison",
    "RunDirectory",
    "RunEntry",
    "RunResult",
    "StreamEvent",
    "StreamTrace",
    "TraceWriter",
    "compare",
    "find_history",
    "find_run",
    "list_runs",
    "read_result",
    "read_trace",
]
