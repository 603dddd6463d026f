"""Logger that writes a run of Weights & Biases."""

from pathlib import Path
from typing import Any

from growmas.config import WandbLogConfig
from growmas.loggers.logger import Numbers, RunLogger, Say
from growmas.report.export import as_png
from growmas.runs.directory import LOG
from growmas.runs.observer import RunBegun, RunEnded

_SCALE = 1


class WandbLogger(RunLogger):
    """Writes a run whose id is that of the run directory, so that a resumed run continues it.

    Offline runs are in `log/wandb` of the run directory; `wandb sync` uploads them. The numbers
    have the axis "step", the training steps.
    """

    kind = "wandb"
    _run: Any = None
    _folder = Path()

    def __init__(self, config: WandbLogConfig, say: Say) -> None:
        super().__init__(say, figures=config.figures)
        self._config = config

    def open(self, begun: RunBegun) -> None:
        """Begin or continue the run."""
        import wandb

        self._folder = begun.folder / LOG
        self._folder.mkdir(exist_ok=True)
        self._run = wandb.init(
            project=self._config.project,
            entity=self._config.entity,
            group=self._config.group,
            tags=list(self._config.tags),
            mode=self._config.mode,
            id=begun.results.run_id,
            name=begun.results.name,
            config=dict(begun.config),
            dir=str(self._folder),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, numbers: Numbers, step: int, *, task: str, epoch: int | None) -> None:
        """Log the numbers of a step."""
        at = {} if epoch is None else {"epoch": epoch}
        self._run.log({**numbers, **at, "step": step})

    def draw(self, name: str, svg: str, step: int) -> None:
        """Log a figure as an image."""
        import wandb

        path = self._folder / f"{name.replace('/', '-')}.png"
        path.write_bytes(as_png(svg, scale=_SCALE))
        self._run.log({name: wandb.Image(str(path)), "step": step})

    def close(self, ended: RunEnded) -> None:
        """Finish the run, as one that failed unless it is finished or stopped."""
        self._run.summary["status"] = ended.status
        self._run.finish(exit_code=int(ended.status == "failed"))
