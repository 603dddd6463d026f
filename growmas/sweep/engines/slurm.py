"""Engine of Slurm, by submitit: each run is a member of an array job.

Slurm warns a run before its time is over. The run then saves its state, is queued again, and
continues. Jobs do not need the process of the sweep: a sweep that is begun again finds the jobs
that it left, by their ids in `logs/jobs.json`.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import submitit
from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import DelayedSubmission

from growmas.atomic_write import atomic_write
from growmas.config import SlurmEngineConfig
from growmas.errors import RunError
from growmas.sweep.cell import run_cell
from growmas.sweep.engine import Ended, Order, Surroundings, folder_token

_LOGS = Path("logs") / "slurm"
_JOBS = Path("logs") / "jobs.json"
_LAG = 5.0  # seconds that a network file system may lag behind
_MOST = 1000  # members of an array job, as most clusters allow
_GRACE = 15.0  # seconds that a cancelled run has to save its state
_GOES_ON = ("PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "COMPLETING", "CONFIGURING", "RESIZING",
            "PREEMPTED", "READY", "SIGNALING", "STAGE_OUT")  # fmt: skip
_REASONS = {
    "OUT_OF_MEMORY": "memory ran out: ask for more with --engine-option mem=",
    "TIMEOUT": "its time was over before it had saved its state: raise --engine-option warning= "
    "or timeout_min=",
    "CANCELLED": "its job was cancelled: the same command continues",
    "NODE_FAIL": "its machine failed: the same command continues",
}


class Cells:
    """Runs of one job, as submitit calls them, one after another.

    When Slurm warns the job, the run in progress saves its state, and the job is queued again.
    """

    def __init__(self, orders: Sequence[Mapping[str, Any]]) -> None:
        self._orders = list(orders)

    def __call__(self) -> list[dict[str, Any]]:
        """Run the orders, and return how each of them ended."""
        number = JobEnvironment._usr_sig()
        requeue = signal.getsignal(number)
        warned = False

        def warn(*_: object) -> None:
            nonlocal warned
            warned = True
            os.kill(os.getpid(), signal.SIGTERM)  # the run finishes its step and saves its state

        signal.signal(number, warn)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        ends: list[dict[str, Any]] = []
        for order in self._orders:
            stopped = bool(ends and ends[-1]["stopped"])
            ends.append(ends[-1] if stopped else run_cell(order))
        signal.signal(number, requeue)
        last = ends[-1]["stopped"]
        warned |= last == f"stopped by {signal.Signals(number).name}"
        if warned and last and callable(requeue):
            requeue(number, None)  # submitit queues it again, and ends this process
        return ends

    def checkpoint(self) -> DelayedSubmission:
        """Return the same runs; they continue where they were stopped."""
        return DelayedSubmission(Cells(self._orders))


class SlurmEngine:
    """Runs orders as array jobs; those of this machine's processes where `cluster` is local.

    Args:
        config: What to ask Slurm for.
        around: The sweep.

    Raises:
        RunError: There is no Slurm here, or it does not know a setting.
    """

    survives = True

    def __init__(self, config: SlurmEngineConfig, around: Surroundings) -> None:
        local = config.cluster == "local"
        self.slots: int | None = config.runs_per_job * ((around.jobs or 1) if local else _MOST)
        self.pause = 0.2 if local else 2.0
        self._config = config
        self._around = around
        self._token = folder_token(around.folder)
        self._jobs = _JobList(around.folder / _JOBS)
        try:
            self._executor = submitit.AutoExecutor(
                around.folder / _LOGS,
                cluster=config.cluster,
                **({"local_max_num_timeout": config.requeues} if local else
                   {"slurm_max_num_timeout": config.requeues}),
            )  # fmt: skip
        except RuntimeError as error:
            raise RunError(
                "Slurm cannot be reached: srun was not found; run growmas sweep on a machine of "
                "the cluster, or try it here with --engine-option cluster=local"
            ) from error

    def submit(self, orders: Sequence[Order]) -> list["_SlurmRun"]:
        """Queue runs, those that an earlier sweep has left in the queue taken over.

        Raises:
            RunError: Slurm refuses them.
        """
        left = {order.name: self._left(order) for order in orders}
        new = [order for order in orders if left[order.name] is None]
        jobs = {name: job for name, job in left.items() if job is not None}
        if new:
            queued = self._queued(new)
            self._jobs.note(queued)
            jobs |= queued
        return [_SlurmRun(*jobs[order.name]) for order in orders]

    def close(self) -> None:
        """Leave the jobs alone."""

    def _left(self, order: Order) -> "_Place | None":
        """Return the job of a run that an earlier sweep has queued and that goes on, if any."""
        found = self._jobs.get(order.name)
        if found is None or found["cluster"] != self._config.cluster:
            return None
        job = _Job(found["cluster"], found["folder"], found["id"])
        return (job, int(found["place"])) if job.goes_on() else None

    def _queued(self, orders: Sequence[Order]) -> "dict[str, _Place]":
        """Return name -> job of runs that are queued now, several to a job where that is asked.

        Raises:
            RunError: Slurm refuses them.
        """
        step = self._config.runs_per_job
        parts = [orders[at : at + step] for at in range(0, len(orders), step)]
        try:
            self._executor.update_parameters(**self._parameters(orders))
            cells = [
                Cells([self._around.order(order, self._token) for order in part]) for part in parts
            ]
            with self._executor.batch():
                jobs = [self._executor.submit(each) for each in cells]
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = next((line for line in lines if "sbatch: error" in line), " ".join(lines[:2]))
            raise RunError(
                f"Slurm refused the runs: {reason}; correct sweep.engine, or give another "
                "--engine-option"
            ) from error
        folder = str(self._around.folder / _LOGS)
        found = [_Job(self._config.cluster, folder, job.job_id, job) for job in jobs]
        return {
            order.name: (job, place)
            for job, part in zip(found, parts, strict=True)
            for place, order in enumerate(part)
        }

    def _parameters(self, orders: Sequence[Order]) -> dict[str, Any]:
        """Return what to ask for, as submitit names it."""
        config, experiments = self._config, [order.experiment for order in orders]
        cuda = any(each.device.startswith("cuda") for each in experiments)
        found: dict[str, Any] = {
            "timeout_min": config.timeout_min,
            "cpus_per_task": config.cpus or max(each.threads for each in experiments),
            "gpus_per_node": int(cuda) if config.gpus is None else config.gpus,
            "mem_gb": config.mem,
        }
        if config.cluster == "slurm":
            named = ("partition", "account", "qos", "constraint")
            found |= {f"slurm_{key}": getattr(config, key) for key in named}
            found |= {
                "name": orders[0].experiment.name,
                "slurm_signal_delay_s": config.warning,
                "slurm_array_parallelism": self._around.jobs or len(orders),
                "slurm_setup": list(config.setup) or None,
            }
        return {key: value for key, value in found.items() if value not in (None, 0)}


class _JobList:
    """The ids of the jobs of a sweep, by the name of the run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, str]] = {}
        with suppress(OSError, ValueError):
            self._known = dict(json.loads(path.read_text(encoding="utf-8")))

    def get(self, name: str) -> dict[str, str] | None:
        return self._known.get(name)

    def note(self, jobs: "Mapping[str, _Place]") -> None:
        for name, (job, place) in jobs.items():
            self._known[name] = {
                "cluster": job.cluster,
                "id": job.id,
                "folder": job.folder,
                "place": str(place),
            }
        with atomic_write(self._path) as fresh:
            fresh.write_text(json.dumps(self._known, indent=1), encoding="utf-8")


class _Job:
    """A job of Slurm, or a process of this machine that stands for one.

    Args:
        cluster: "slurm" or "local".
        folder: Of its files.
        id: Of the job; on this machine, of the process that looks after it.
        job: As submitit gave it; None for one that an earlier sweep has left.
    """

    def __init__(
        self, cluster: str, folder: str, id: str, job: "submitit.Job[Any] | None" = None
    ) -> None:
        self.cluster, self.folder, self.id = cluster, folder, id
        self._local = cluster == "local"
        kind = submitit.LocalJob if self._local else submitit.SlurmJob
        self._left = job is None
        self._job: submitit.Job[Any] = kind(folder, id) if job is None else job

    def goes_on(self) -> bool:
        """Return True if a job that was left waits or runs."""
        if self._job.paths.result_pickle.exists():
            return False
        if self._local:
            return _is_controller(self.id)
        state = str(self._job.watcher.get_state(self.id, mode="force"))
        return state.upper().startswith(_GOES_ON)

    def done(self) -> bool:
        """Return True if it has ended."""
        if self._local and self._left:
            return not self.goes_on()
        return bool(self._job.done())

    def ended(self, place: int) -> Ended:
        """Return how one of its runs ended, given by its place among them."""
        paths = self._job.paths
        if not paths.result_pickle.exists():
            time.sleep(0.2 if self._local else _LAG)
        if paths.result_pickle.exists():
            return self._told(place)
        state = "" if self._local else self._job.state.partition(" ")[0]
        if state in ("", "FAILED") and not (paths.stderr.exists() or paths.stdout.exists()):
            folder = Path(self.folder).parents[1]
            return Ended(
                f"its job left no output: the machines of the cluster do not see {folder}, or "
                "ended it at once; name a folder on storage that all machines share with --out",
                hopeless=True,
            )
        killed = "its process was killed, as when memory runs out"
        known = _REASONS.get(state, f"its job ended as {state}" if state else killed)
        return Ended(f"{known}; {paths.stderr} has its output")

    def _told(self, place: int) -> Ended:
        try:
            told: dict[str, Any] = self._job.result()[place]
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
            last = next((line for line in reversed(lines) if "Error" in line), lines[-1])
            return Ended(f"{last}; {self._job.paths.stderr} has its output")
        return Ended(told["message"], hopeless=told["hopeless"])

    def terminate(self) -> None:
        """Ask it to end."""
        with suppress(OSError, subprocess.SubprocessError):
            if self._local:
                os.kill(int(self.id), signal.SIGTERM)  # passed on to the run
            else:
                self._job.cancel()

    def kill(self) -> None:
        """End it at once."""
        if self._local:
            with suppress(OSError):
                os.kill(int(self.id), signal.SIGINT)


_Place = tuple[_Job, int]
"""A job, and the place of a run among those of the job."""


class _SlurmRun:
    def __init__(self, job: _Job, place: int) -> None:
        self._job = job
        self._place = place

    def poll(self) -> Ended | None:
        return self._job.ended(self._place) if self._job.done() else None

    def terminate(self) -> None:
        self._job.terminate()

    def stop(self) -> None:
        until = time.monotonic() + _GRACE
        while not self._job.done():
            if time.monotonic() > until:
                self._job.kill()
                return
            time.sleep(0.2)


def _is_controller(id: str) -> bool:
    """Return True if a process of this machine looks after a job of submitit.

    The command line of a process is empty for a moment while it loads its program, and after its
    end until its parent has seen that; it is asked again for half a second.
    """
    for _ in range(10):
        try:
            line = Path(f"/proc/{id}/cmdline").read_bytes()
        except OSError:
            return False
        if line:
            return b"submitit.local" in line
        time.sleep(0.05)
    return False
