"""Logger that writes a run of MLflow."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from growmas.config import MlflowLogConfig
from growmas.loggers.logger import Numbers, RunLogger, Say
from growmas.runs.directory import LOG
from growmas.runs.observer import RunBegun, RunEnded

TAG = "growmas.run"
"""Tag of an MLflow run with the id of the run directory, by which a resumed run finds it."""

_FORBIDDEN = re.compile(r"[^\w\-. :/]")
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MlflowLogger(RunLogger):
    """Writes a run of MLflow; a resumed run continues it.

    Without an address the runs are in a database of their own, `log/mlflow.db` of the run
    directory: `mlflow ui --backend-store-uri sqlite:///…/log/mlflow.db` shows it. Figures are
    artifacts. Names of metrics are those of other loggers, with "_" for letters that MLflow does
    not take.
    """

    kind = "mlflow"
    _client: Any = None
    _run_id = ""

    def __init__(self, config: MlflowLogConfig, say: Say) -> None:
        super().__init__(say, figures=config.figures)
        self._config = config

    def open(self, begun: RunBegun) -> None:
        """Begin the run, or find it by its tag."""
        from mlflow import MlflowClient

        folder = (begun.folder / LOG).resolve()
        folder.mkdir(exist_ok=True)
        given = address(self._config)
        self._client = MlflowClient(given or f"sqlite:///{folder / 'mlflow.db'}")
        found = self._client.get_experiment_by_name(self._config.experiment)
        if found is None:
            place = None if given else (folder / "mlflow").as_uri()
            experiment = self._client.create_experiment(self._config.experiment, place)
        else:
            experiment = found.experiment_id
        query = f"tags.`{TAG}` = '{begun.results.run_id}'"
        runs = self._client.search_runs([experiment], query) if begun.resumed else []
        if runs:
            self._run_id = runs[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
            return
        tags = {TAG: begun.results.run_id, "growmas.folder": str(begun.folder.resolve())}
        run = self._client.create_run(experiment, tags=tags, run_name=begun.results.name)
        self._run_id = run.info.run_id
        self._client.log_text(self._run_id, json.dumps(begun.config, indent=2), "config.json")
        for name in ("method", "stream", "scenario", "seed"):
            self._client.log_param(self._run_id, name, getattr(begun.results, name))

    def write(self, numbers: Numbers, step: int, *, task: str, epoch: int | None) -> None:
        """Log the numbers of a step."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [
            Metric(_FORBIDDEN.sub("_", name), value, now, step) for name, value in numbers.items()
        ]
        self._client.log_batch(self._run_id, metrics=metrics)

    def draw(self, name: str, svg: str, step: int) -> None:
        """Log a figure as an artifact, one file for each step."""
        self._client.log_text(self._run_id, svg, f"{name}-{step:08}.svg")

    def close(self, ended: RunEnded) -> None:
        """End the run with its status."""
        self._client.set_terminated(self._run_id, status=_STATUS[ended.status])


def address(config: MlflowLogConfig) -> str | None:
    """Return the address that is given or that the environment names; None for neither."""
    return config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None


def local_database(uri: str) -> Path | None:
    """Return the file of an SQLite address; None for others."""
    start = "sqlite:///"
    return Path(uri.removeprefix(start)) if uri.startswith(start) else None
