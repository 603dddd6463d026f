"""Output of a view: to the terminal, as JSON, or as a picture."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

from growmas.atomic_write import atomic_write
from growmas.terminal.tables import BriefConsole
from growmas.visible import visible

_PICTURE_WIDTH = 100


@dataclass(frozen=True)
class Output:
    """The options `--json`, `--ascii`, `--width`, `--svg` and `--explain`.

    Attributes:
        as_json: Print the data instead of the view.
        ascii: Use ASCII characters only.
        width: Columns; None for those of the terminal.
        svg: Write the view to this file too.
        explain: Print below tables how to read them; notes that are data are printed anyway.
    """

    as_json: bool = False
    ascii: bool = False
    width: int | None = None
    svg: Path | None = None
    explain: bool = False

    def show(
        self, view: Callable[[bool], RenderableType], data: Callable[[], object], *, title: str
    ) -> None:
        """Print a view or its data.

        Args:
            view: Makes the view; its argument is True for ASCII only.
            data: Makes what is printed as JSON.
            title: Of the picture.
        """
        if self.svg is not None:
            with atomic_write(self.svg) as fresh:
                fresh.write_text(self._picture(view(self.ascii), title), encoding="utf-8")
        if self.as_json:
            sys.stdout.write(json.dumps(data(), indent=1) + "\n")
        else:
            console = self._console(width=self.width, highlight=False)
            plain = self.ascii or not console.encoding.lower().startswith("utf")
            if console.is_terminal:
                console.print(_Visible(view(plain)))
            else:
                sys.stdout.write(as_text(_Visible(view(plain)), console))

    def _console(self, **options: Any) -> Console:
        return Console(**options) if self.explain else BriefConsole(**options)

    def _picture(self, view: RenderableType, title: str) -> str:
        """Return an SVG that loads nothing from the network."""
        console = self._console(
            width=self.width or _PICTURE_WIDTH,
            file=StringIO(),
            record=True,
            highlight=False,
            force_terminal=True,
            color_system="truecolor",
            legacy_windows=False,
        )
        console.print(_Visible(view))
        return console.export_svg(title=title, code_format=_SVG)


@dataclass(frozen=True)
class _Visible:
    """A view whose texts hold no control characters."""

    view: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in console.render(self.view, options):
            yield part if part.control else Segment(visible(part.text), part.style)


def as_text(view: RenderableType, console: Console) -> str:
    """Return what the console would show, without trailing blanks."""
    with console.capture() as capture:
        console.print(view)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


# Rich's own format, except for its fonts, which it would load from the network.
_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" xml:space="preserve">
<style>
.{unique_id}-matrix {{
  font-family: "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
.{unique_id}-title {{ font: bold 18px Arial, Helvetica, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
