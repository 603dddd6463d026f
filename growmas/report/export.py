"""Files of a report: the page, and its figures as SVG and PNG."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from growmas.atomic_write import atomic_write
from growmas.errors import RunError
from growmas.paths import as_path
from growmas.report.figure import Figure
from growmas.report.page import build_page, comparison_figures, run_figures
from growmas.report.palette import file_styles
from growmas.report.run_summary import RunSummary
from growmas.report.study_figures import study_figures
from growmas.report.study_page import build_study_page
from growmas.report.study_summary import StudySummary
from growmas.visible import visible

_SCALE = 3  # pixels of a PNG per pixel of a figure, for sharp print


def write_report(
    runs: Sequence[RunSummary] | StudySummary,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> None:
    """Write one HTML file that needs nothing else, about runs or about settings over seeds.

    Raises:
        RunError: If the file exists and `overwrite` is False, or if it cannot be written, as
            where its folder does not exist; an existing file is then unchanged.
    """
    target = as_path(path, RunError, "a file")
    _check_runs(runs)
    _check_free([target], overwrite=overwrite)
    page = build_study_page(runs) if isinstance(runs, StudySummary) else build_page(runs)
    _write(target, visible(page).encode())


def write_figures(
    runs: Sequence[RunSummary] | StudySummary,
    folder: str | os.PathLike[str],
    *,
    png: bool = False,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write every figure of every run as SVG, in the light theme, and with `png` also as PNG.

    Returns:
        The files written. With several runs, a figure's name begins with the run's.

    Raises:
        RunError: If one of the files exists and `overwrite` is False, if one cannot be written, or
            if `png` is True and resvg-py is not installed.
    """
    target = as_path(folder, RunError, "a folder")
    _check_runs(runs)
    pictures: dict[Path, bytes] = {}
    for name, figure in _named(runs):
        svg = as_svg(figure)
        pictures[target / f"{name}.svg"] = visible(svg).encode()
        if png:
            pictures[target / f"{name}.png"] = as_png(svg)
    _check_free(list(pictures), overwrite=overwrite)
    with suppress(OSError):  # `atomic_write` reports it with the path
        target.mkdir(parents=True, exist_ok=True)
    for path, content in pictures.items():
        _write(path, content)
    return tuple(pictures)


def as_svg(figure: Figure) -> str:
    """Return a figure as an SVG file, in the light theme."""
    return figure.drawing.render(
        title=figure.title, description=figure.caption, name=figure.key, style=file_styles()
    )


def as_png(svg: str, *, scale: int = _SCALE) -> bytes:
    """Return an SVG file as PNG.

    Args:
        svg: The file.
        scale: Pixels per pixel of the figure.

    Raises:
        RunError: resvg-py is not installed.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise RunError(
            "PNG figures need resvg-py: pip install 'growmas[report]', or leave out --png and "
            "convert the SVG files"
        ) from error
    return bytes(svg_to_bytes(svg_string=svg, zoom=scale))


def _named(runs: Sequence[RunSummary] | StudySummary) -> list[tuple[str, Figure]]:
    if isinstance(runs, StudySummary):
        return [(figure.key, figure) for figure in study_figures(runs)]
    named = [(figure.key, figure) for figure in comparison_figures(runs)]
    for i, run in enumerate(runs):
        before = "" if len(runs) == 1 else f"{i + 1}-{_file_name(run.name)}-"
        named += [(f"{before}{figure.key}", figure) for figure in run_figures(run)]
    return named


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.") or "run"


def _check_runs(runs: object) -> None:
    if isinstance(runs, StudySummary):
        return
    if not isinstance(runs, Sequence) or not all(isinstance(each, RunSummary) for each in runs):
        raise RunError(
            f"expected a list of runs, as read_summary returns them, or a study, as read_study "
            f"returns, got {visible(repr(runs)):.80}"
        )
    if not runs:
        raise RunError("there is no run to write a report about")


def _check_free(paths: Sequence[Path], *, overwrite: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        which = f"{there[0]} exists" if len(there) == 1 else f"{there[0]} and others exist"
        raise RunError(f"{which}: choose another place, or replace it with --overwrite")


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as fresh:
        fresh.write_bytes(content)
