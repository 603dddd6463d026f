"""Loggers built from a config, and everything that could keep them from beginning, checked."""

import netrc
import os
import socket
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from growmas.config import (
    CsvLogConfig,
    LogConfig,
    MlflowLogConfig,
    PythonLogConfig,
    TensorBoardLogConfig,
    WandbLogConfig,
)
from growmas.data.targets import call_target, find_target
from growmas.errors import ConfigError
from growmas.loggers.csv_file import CsvLogger
from growmas.loggers.logger import Say
from growmas.loggers.mlflow import MlflowLogger, address, local_database
from growmas.loggers.tensorboard import TensorBoardLogger
from growmas.loggers.wandb import WandbLogger
from growmas.runs.observer import Observer

_PATIENCE = 5.0  # seconds until a server counts as unreachable
_PORTS = {"http": 80, "https": 443}
_WANDB = "https://api.wandb.ai"
_WANDB_KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")


def build_loggers(
    configs: Sequence[LogConfig], *, imports: Sequence[str] = (), say: Say
) -> tuple[Observer, ...]:
    """Build the loggers of a config; what could keep one from beginning is found here.

    Args:
        configs: The `log` of an experiment.
        imports: Folders in which modules of targets are found.
        say: Is told in words if a logger fails later.

    Raises:
        ConfigError: A package is not installed, a server or a folder cannot be reached, a key is
            missing, or a target is not an observer.
    """
    built: list[Observer] = []
    for position, config in enumerate(configs):
        try:
            built.append(_build(config, imports, say))
        except ConfigError as error:
            error.key = (position, *error.key)
            raise
    return tuple(built)


def _build(config: LogConfig, imports: Sequence[str], say: Say) -> Observer:
    if isinstance(config, PythonLogConfig):
        return _own_observer(config, imports)
    if isinstance(config, CsvLogConfig):
        return CsvLogger(say)
    _check_importable(config.kind, config.kind)
    if config.figures and not isinstance(config, MlflowLogConfig):
        for package, drawn in (("resvg_py", "drawn with resvg-py"), ("PIL", "read with Pillow")):
            off = ", or set figures: false"
            _check_importable(package, config.kind, f"figures are {drawn}", off=off)
    if isinstance(config, TensorBoardLogConfig):
        if config.folder is not None:
            _check_folder(Path(config.folder), "folder")
        return TensorBoardLogger(config, say)
    if isinstance(config, WandbLogConfig):
        _check_wandb(config)
        return WandbLogger(config, say)
    _check_mlflow(config)
    return MlflowLogger(config, say)


def _own_observer(config: PythonLogConfig, imports: Sequence[str]) -> Observer:
    found = find_target(config.target, imports)
    if isinstance(found, type) and not issubclass(found, Observer):
        raise ConfigError(
            f"{config.target} is not a subclass of growmas.Observer: class "
            f"{found.__name__}(Observer)",
            key=("target",),
        )
    observer = call_target(config.target, config.args, folders=imports)
    if not isinstance(observer, Observer):
        raise ConfigError(
            f"{config.target} returned a {type(observer).__name__}: expected a growmas.Observer",
            key=("target",),
        )
    return observer


def _check_importable(package: str, extra: str, why: str = "", *, off: str = "") -> None:
    """Refuse a package that is not installed, or that fails when it is imported."""
    try:
        import_module(package)
    except ImportError as error:
        reason = why or f"{extra} needs the package {package}"
        missing = find_spec(package.partition(".")[0]) is None
        state = "is not installed" if missing else f"cannot be imported ({error})"
        raise ConfigError(
            f"{reason}, which {state}: pip install 'growmas[{extra}]'{off}", key=("kind",)
        ) from error


def _check_folder(folder: Path, key: str) -> None:
    """Refuse a folder that cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return
        reason = "it cannot be written"
    except OSError as error:
        reason = error.strerror or str(error)
    raise ConfigError(f"expected a folder to write to, got {folder}: {reason}", key=(key,))


def _check_wandb(config: WandbLogConfig) -> None:
    """Refuse to log online without a key or a server."""
    mode = config.mode or os.environ.get("WANDB_MODE") or "online"
    if mode != "online":
        return
    server = os.environ.get("WANDB_BASE_URL") or _WANDB
    host = urlsplit(server).hostname or ""
    if not any(os.environ.get(name) for name in _WANDB_KEYS) and not _in_netrc(host):
        raise ConfigError(
            f"wandb has no key for {host}: run wandb login, or set WANDB_API_KEY, or give mode: "
            "offline and upload later with wandb sync",
            key=("mode",),
        )
    _check_reachable(server, "mode", "give mode: offline and upload later with wandb sync")


def _in_netrc(host: str) -> bool:
    """Return True if the file in which wandb login keeps keys has one for a server."""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _check_mlflow(config: MlflowLogConfig) -> None:
    uri = address(config)
    if uri is None:
        return
    if urlsplit(uri).scheme in _PORTS:
        remedy = "start it with mlflow server, or leave tracking_uri out for a file of the run"
        _check_reachable(uri, "tracking_uri", remedy)
    database = local_database(uri)
    if database is not None:
        _check_folder(database.parent, "tracking_uri")


def _check_reachable(server: str, key: str, remedy: str) -> None:
    """Refuse a server that does not answer."""
    parts = urlsplit(server)
    try:
        port = parts.port or _PORTS.get(parts.scheme, 443)
        socket.create_connection((parts.hostname or "", port), timeout=_PATIENCE).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"the server {server} cannot be reached ({reason}): {remedy}", key=(key,)
        ) from error
