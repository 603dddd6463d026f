"""Engine of Ray: each run is a task, begun again where its worker was lost."""

import logging
import os
import socket
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray import exceptions

from growmas.config import RayEngineConfig
from growmas.errors import GrowmasWarning, RunError
from growmas.sweep.cell import run_cell, unpack
from growmas.sweep.engine import Ended, Order, Surroundings, folder_token

_PATIENCE = 5.0  # seconds to reach a cluster
_GRACE = 10.0  # seconds that a run has to save its state
_GB = 1024**3
_AGAIN = "the same command continues"


class RayEngine:
    """Runs orders as tasks of a Ray cluster: one of its address, the one in use, or one begun here.

    Args:
        config: The needs of a run, and the address.
        around: The sweep.

    Raises:
        RunError: The cluster cannot be reached.
    """

    pause = 0.1
    survives = False

    def __init__(self, config: RayEngineConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self.slots: int | None = around.jobs
        if config.address is not None:
            _probe(config.address)
        self._own = not ray.is_initialized()
        if self._own:
            _connect(config, around)
        self._token = None if config.bring_back else folder_token(around.folder)
        self._checked: list[dict[str, float]] = []
        self._waiting: set[Any] = set()
        self._looked = 0.0
        self._task: Any = ray.remote(run_cell)

    def submit(self, orders: Sequence[Order]) -> list["_RayRun"]:
        """Queue runs, in their order.

        Raises:
            RunError: No machine has the CPUs, GPUs or memory that a run needs.
        """
        runs = []
        for order in orders:
            needs = _needs(order, self._config)
            if needs not in self._checked:
                _check_needs(needs, here=self._own and self._config.address is None)
                self._checked.append(needs)
            options = {**needs, "max_retries": self._config.max_retries, "name": order.name}
            reference = self._task.options(**options).remote(self._around.order(order, self._token))
            self._waiting.add(reference)
            runs.append(_RayRun(self, order, reference))
        return runs

    def close(self) -> None:
        """Leave the cluster, and end it if it was begun here."""
        if self._own:
            ray.shutdown()

    def is_done(self, reference: Any) -> bool:
        """Return True if a task has ended; asks for all of them at once, at most every pause."""
        if reference in self._waiting and time.monotonic() - self._looked > self.pause / 2:
            self._looked = time.monotonic()
            waiting = list(self._waiting)
            done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            self._waiting -= set(done)
        return reference not in self._waiting


class _RayRun:
    def __init__(self, engine: RayEngine, order: Order, reference: Any) -> None:
        self._engine = engine
        self._order = order
        self._reference = reference

    def poll(self) -> Ended | None:
        if not self._engine.is_done(self._reference):
            return None
        try:
            ended = ray.get(self._reference)
        except Exception as error:
            return _lost(error, self._order)
        if ended["archive"] is not None:
            unpack(ended["archive"], self._order.folder, self._order.log)
        return Ended(ended["message"], hopeless=ended["hopeless"])

    def terminate(self) -> None:
        with suppress(Exception):
            ray.cancel(self._reference)

    def stop(self) -> None:
        until = time.monotonic() + _GRACE
        with suppress(Exception):
            while not self._engine.is_done(self._reference):
                if time.monotonic() > until:
                    ray.cancel(self._reference, force=True)
                    return
                time.sleep(self._engine.pause)


def _connect(config: RayEngineConfig, around: Surroundings) -> None:
    """Begin a cluster on this machine, or connect to one.

    Raises:
        RunError: It cannot be reached.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if config.address is None:
        wanted = (around.jobs or 1) if config.cpus is None else 1
        options |= {"num_cpus": max(os.cpu_count() or 1, wanted), "include_dashboard": False}
        address = "local"
    else:
        address = config.address
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address, **options)
    except Exception as error:
        raise _unreachable(address, error) from error


def _probe(address: str) -> None:
    """Refuse an address that does not answer; Ray itself waits for it for long.

    Raises:
        RunError: It does not answer.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return  # auto, or the name of a cluster: Ray says what it found
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> RunError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if address == "local":
        return RunError(f"Ray could not be begun on this machine: {reason}")
    return RunError(
        f"the Ray cluster at {address} cannot be reached: {reason}; begin one with ray start "
        "--head and give its address, or leave address out to begin one on this machine"
    )


def _needs(order: Order, config: RayEngineConfig) -> dict[str, float]:
    """Return what a run needs, as Ray names it."""
    experiment = order.experiment
    needs: dict[str, float] = {
        "num_cpus": experiment.threads if config.cpus is None else config.cpus,
        "num_gpus": experiment.device.startswith("cuda") if config.gpus is None else config.gpus,
    }
    if config.memory is not None:
        needs["memory"] = int(config.memory * _GB)
    return needs


def _check_needs(needs: Mapping[str, float], *, here: bool) -> None:
    """Refuse needs that this machine can never meet; warn where a cluster cannot meet them yet.

    Raises:
        RunError: Says what is missing.
    """
    words = {
        "CPU": (needs["num_cpus"], "CPU cores", 1.0),
        "GPU": (needs["num_gpus"], "GPUs", 1.0),
        "memory": (needs.get("memory", 0.0), "GB of memory", _GB),
    }
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(key, 0) >= need for key, (need, _, _) in words.items()) for node in nodes):
        return
    most = {key: max((node.get(key, 0) for node in nodes), default=0) for key in words}
    text = ", ".join(
        f"{need / unit:g} {name} (at most {most[key] / unit:g} on one machine)"
        for key, (need, name, unit) in words.items()
        if need
    )
    if here:
        raise RunError(
            f"a run needs {text}: give less with --engine-option cpus=, gpus= or memory=, or set "
            "threads or device of the config"
        )
    warnings.warn(
        f"a run needs {text}: the runs wait until such a machine joins the cluster",
        GrowmasWarning,
        stacklevel=2,
    )


def _lost(error: Exception, order: Order) -> Ended:
    """Return the end of a task that gave no result."""
    reason = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, exceptions.OutOfMemoryError):
        text = "memory ran out on its machine: reserve more with --engine-option memory="
        return Ended(f"{text}, or give fewer --jobs; {order.log} has its output")
    if isinstance(error, exceptions.WorkerCrashedError):
        return Ended(
            "its worker was killed each time, as when memory runs out: reserve more with "
            f"--engine-option memory=; {order.log} has its output"
        )
    if isinstance(error, exceptions.TaskCancelledError):
        return Ended(f"it was cancelled: {_AGAIN}")
    if "No module named" in str(error):
        module = next(line for line in str(error).splitlines() if "No module named" in line)
        return Ended(
            f"the workers of Ray lack a package ({module.strip()}): install growmas on every "
            "machine of the cluster",
            hopeless=True,
        )
    return Ended(f"its task was lost: {type(error).__name__}: {reason}; {_AGAIN}")
