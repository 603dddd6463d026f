"""Data-parallel training: importance, statistics, contexts and edits over several processes.

Every process has the whole network and a part of the data. What each measures on its part is added
up exactly, process 0 decides on edits, and every process makes the same edit. Without a process
group the functions do what one process does.
"""

from growmas.distributed.contexts import update_context
from growmas.distributed.edits import apply
from growmas.distributed.manager import DistributedManager
from growmas.distributed.processes import (
    all_max,
    all_sum,
    broadcast,
    check_same,
    is_main,
    process_group,
    rank,
    share_random_state,
    size,
    together,
)
from growmas.distributed.sharing import (
    add_gradients,
    all_reduce,
    average_norms,
    own_rows,
    own_share,
)
from growmas.distributed.wrapping import rewrap, unwrap

__all__ = [
    "DistributedManager",
    "add_gradients",
    "all_max",
    "all_reduce",
    "all_sum",
    "apply",
    "average_norms",
    "broadcast",
    "check_same",
    "is_main",
    "own_rows",
    "own_share",
    "process_group",
    "rank",
    "rewrap",
    "share_random_state",
    "size",
    "together",
    "unwrap",
    "update_context",
]
