"""The public names of growmas.data. `growmas.lazy` reads this file; see `growmas.data.__doc__`."""

from growmas.data.batching import batches as batches
from growmas.data.changes import (
    Permutation as Permutation,
    Resizing as Resizing,
    Rotation as Rotation,
    rotated as rotated,
)
from growmas.data.heads import own_heads as own_heads
from growmas.data.names import Scenario as Scenario
from growmas.data.preparation import Scaling as Scaling
from growmas.data.sampling import Limit as Limit, Sampling as Sampling
from growmas.data.source_streams import sources_stream as sources_stream
from growmas.data.sources import (
    Dataset as Dataset,
    hold_out as hold_out,
    load_source as load_source,
    register_source as register_source,
    source_names as source_names,
)
from growmas.data.splits import Split as Split, joined as joined
from growmas.data.streams import (
    ordered_stream as ordered_stream,
    permuted_stream as permuted_stream,
    repeated_stream as repeated_stream,
    rotated_stream as rotated_stream,
    split_stream as split_stream,
)
from growmas.data.task_free import (
    TaskFreeStream as TaskFreeStream,
    drifting_stream as drifting_stream,
    task_free_stream as task_free_stream,
)
from growmas.data.tasks import Stream as Stream, Task as Task
