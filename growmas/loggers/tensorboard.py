"""Logger that writes event files of TensorBoard."""

from io import BytesIO
from pathlib import Path
from typing import Any

from growmas.config import TensorBoardLogConfig
from growmas.loggers.logger import Numbers, RunLogger, Say
from growmas.report.export import as_png
from growmas.runs.directory import LOG
from growmas.runs.observer import RunBegun, RunEnded

_SCALE = 1


class TensorBoardLogger(RunLogger):
    """Writes event files: numbers by training step, and figures as images.

    Of a resumed run, TensorBoard hides the events of later steps than its checkpoint that were
    written before.
    """

    kind = "tensorboard"
    _writer: Any = None

    def __init__(self, config: TensorBoardLogConfig, say: Say) -> None:
        super().__init__(say, figures=config.figures)
        self._folder = config.folder

    def open(self, begun: RunBegun) -> None:
        """Begin an event file in the folder of the run."""
        from torch.utils.tensorboard import SummaryWriter

        own = f"{begun.results.name}-{begun.results.run_id}"
        folder = Path(self._folder) / own if self._folder else begun.folder / LOG / self.kind
        purge = begun.step if begun.resumed else None
        self._writer = SummaryWriter(str(folder), purge_step=purge)

    def write(self, numbers: Numbers, step: int, *, task: str, epoch: int | None) -> None:
        """Add the numbers, and hand them to the disk."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def draw(self, name: str, svg: str, step: int) -> None:
        """Add a figure as an image."""
        import numpy as np
        from PIL import Image

        with Image.open(BytesIO(as_png(svg, scale=_SCALE))) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(name, pixels, step, dataformats="HWC")
        self._writer.flush()

    def close(self, ended: RunEnded) -> None:
        """Close the event file."""
        self._writer.close()
