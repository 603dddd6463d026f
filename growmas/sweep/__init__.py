"""Many runs of one config: every combination of values, or a search for the best of them.

Nothing here imports torch; the processes of the runs do.
"""

from growmas.sweep.grid import Axis, Grid, read_grid, split_values
from growmas.sweep.plan import PlannedRun, Sweep, plan_sweep
from growmas.sweep.tuning import Tuned, Tuning, plan_tuning, run_tuning
from growmas.sweep.work import Observer, run_sweep

__all__ = [
    "Axis",
    "Grid",
    "Observer",
    "PlannedRun",
    "Sweep",
    "Tuned",
    "Tuning",
    "plan_sweep",
    "plan_tuning",
    "read_grid",
    "run_sweep",
    "run_tuning",
    "split_values",
]
