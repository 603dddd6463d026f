"""The engine that a config asks for, checked and made ready."""

import importlib.util

from growmas.config import EngineConfig, LocalEngineConfig, RayEngineConfig
from growmas.errors import RunError
from growmas.sweep.engine import Engine, Surroundings
from growmas.sweep.engines.local import LocalEngine
from growmas.sweep.workers import workers_for

_PACKAGES = {"ray": "ray", "slurm": "submitit"}


def check_engine(config: EngineConfig) -> None:
    """Refuse an engine whose package is not installed.

    Raises:
        RunError: Names the package and the line that installs it.
    """
    package = _PACKAGES.get(config.kind)
    if package is not None and importlib.util.find_spec(package) is None:
        raise RunError(
            f"engine {config.kind} needs {package}, which is not installed: "
            f"pip install 'growmas[{config.kind}]'"
        )


def open_engine(config: EngineConfig, around: Surroundings) -> Engine:
    """Make an engine ready for its first run.

    Raises:
        RunError: It cannot be reached.
    """
    if isinstance(config, LocalEngineConfig):
        workers = workers_for(around.module, around.held, runs=around.runs, warm=around.warm)
        return LocalEngine(workers, around.jobs or 1)
    if isinstance(config, RayEngineConfig):
        from growmas.sweep.engines.ray import RayEngine

        return RayEngine(config, around)
    from growmas.sweep.engines.slurm import SlurmEngine

    return SlurmEngine(config, around)
