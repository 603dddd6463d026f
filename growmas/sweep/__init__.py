"""Many runs of one config: every combination of values, each in a process of its own.

Nothing here imports torch; the processes of the runs do.
"""

from growmas.sweep.grid import Axis, Grid, read_grid, split_values
from growmas.sweep.plan import PlannedRun, Sweep, plan_sweep
from growmas.sweep.work import Observer, run_sweep

__all__ = [
    "Axis",
    "Grid",
    "Observer",
    "PlannedRun",
    "Sweep",
    "plan_sweep",
    "read_grid",
    "run_sweep",
    "split_values",
]
