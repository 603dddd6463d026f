"""`growmas export --network`: the network of a run as a file that opens without growmas."""

import sys
from pathlib import Path

from growmas.errors import RunError
from growmas.experiment import load_run
from growmas.experiment.exporting import Format, export_network
from growmas.runs import find_run

FORMATS: dict[str, Format] = {".pt2": "pt2", ".onnx": "onnx", ".safetensors": "safetensors"}


def export(run: str, root: Path, *, format: str | None, task: str | None, out: Path | None) -> None:
    """Write the network of a run, and print where to.

    Raises:
        RunError: There is no file or format, or the network cannot be written.
    """
    if out is None:
        raise RunError("a network cannot be printed: name a file with -o FILE")
    chosen = FORMATS.get(f".{format}" if format else out.suffix)
    if chosen is None:
        given = f"--format {format}" if format else f"{out} names no format"
        raise RunError(f"{given}: a network is written as pt2, onnx or safetensors")
    loaded = load_run(find_run(run, root))
    with loaded.history:
        written = export_network(loaded, out, format=chosen, task=task)
    sys.stdout.write(
        f"{written.path}: {written.parameters:,} parameters, inputs "
        f"{written.about['input_shape']}, checked: outputs differ by {written.difference:.1e}\n"
    )
