"""SVG pictures, built mark by mark and written into a page or as a file."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Anchor = Literal["start", "middle", "end"]
Value = str | float | int | None
_MARGIN = 14  # pixels around a picture in its own file; a page has its own margins


@dataclass(frozen=True)
class Mark:
    """An SVG element.

    Attributes:
        tag: Name of the element.
        attributes: Attributes; those that are None are left out, and "_" stands for "-".
        text: Text inside it, not yet escaped.
        tip: Text shown when a pointer is over it; None for no text.
        data: JSON values for the script that shows tips; None for no data.
    """

    tag: str
    attributes: dict[str, Value]
    text: str = ""
    tip: str | None = None
    data: object = None

    def render(self, *, standalone: bool) -> str:
        """Return SVG; a tip becomes a title in a file, an attribute in a page."""
        attributes = {name.replace("_", "-"): value for name, value in self.attributes.items()}
        inner = escape(self.text, quote=False)
        if standalone and self.tip is not None:
            inner += f"<title>{escape(self.tip, quote=False)}</title>"
        elif not standalone:
            attributes["data-tip"] = self.tip
            if self.data is not None:
                attributes["data-grid"] = json.dumps(self.data, separators=(",", ":"))
        written = "".join(
            f' {name}="{_written(value)}"'
            for name, value in attributes.items()
            if value is not None
        )
        return f"<{self.tag}{written}>{inner}</{self.tag}>" if inner else f"<{self.tag}{written}/>"


class Drawing:
    """A picture to which marks are added; lengths are pixels, y goes down.

    Colours are names of styles from `growmas.report.palette`, so that one drawing serves a light
    page, a dark page, paper and a file.

    Args:
        width: Width of the whole picture.
        height: Height of the whole picture; it can be set later.
    """

    def __init__(self, width: float, height: float = 0) -> None:
        self.width = width
        self.height = height
        self._marks: list[Mark] = []

    def rect(
        self, x: float, y: float, width: float, height: float, style: str, *, tip: str | None = None
    ) -> None:
        """Add a box, unless it has no area."""
        if width > 0 and height > 0:
            box: dict[str, Value] = {"x": x, "y": y, "width": width, "height": height}
            self._marks.append(Mark("rect", {"class": style, **box}, tip=tip))

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """Add a straight line."""
        ends: dict[str, Value] = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
        self._marks.append(Mark("line", {"class": style, **ends}))

    def circle(self, x: float, y: float, r: float, style: str, *, tip: str | None = None) -> None:
        """Add a circle."""
        self._marks.append(Mark("circle", {"class": style, "cx": x, "cy": y, "r": r}, tip=tip))

    def path(self, d: str, style: str, *, tip: str | None = None) -> None:
        """Add a path, unless it is empty."""
        if d:
            self._marks.append(Mark("path", {"class": style, "d": d}, tip=tip))

    def polyline(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """Add points joined by lines."""
        self.path("M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points), style)

    def text(
        self, x: float, y: float, text: str, style: str = "t", *, anchor: Anchor = "start"
    ) -> None:
        """Add a line of text; `y` is its base line."""
        place: dict[str, Value] = {"x": x, "y": y}
        if anchor != "start":
            place["text_anchor"] = anchor
        self._marks.append(Mark("text", {"class": style, **place}, text))

    def boxes(self, boxes: Iterable[tuple[float, float, float, float]], style: str) -> None:
        """Add boxes of one style, (x, y, width, height) each, as one element."""
        parts = (tuple(map(_number, box)) for box in boxes if box[2] > 0 and box[3] > 0)
        self.path("".join(f"M{x} {y}h{w}v{h}h-{w}z" for x, y, w, h in parts), style)

    def hit_area(self, x: float, y: float, width: float, height: float, data: object) -> None:
        """Add an invisible box over a grid of cells; the script shows tips from `data`."""
        box: dict[str, Value] = {"x": x, "y": y, "width": width, "height": height}
        self._marks.append(Mark("rect", {"class": "hit", **box}, data=data))

    def cells(
        self,
        x: float,
        y: float,
        size: tuple[float, float],
        styles: Sequence[Sequence[str | None]],
        *,
        gap: float = 1.0,
    ) -> None:
        """Add rows of coloured cells; None leaves one out. Cells of one style are one element."""
        width, height = size
        found: dict[str, list[tuple[int, int, int]]] = {}
        for i, row in enumerate(styles):
            for start, length, style in _stretches(row, joined=gap == 0):
                found.setdefault(style, []).append((i, start, length))
        for style, cells in sorted(found.items()):
            if gap:
                self.boxes(
                    (
                        (x + start * width, y + i * height, length * width - gap, height - gap)
                        for i, start, length in cells
                    ),
                    style,
                )
            else:  # many small cells: in units of cells the path is half as long
                d = "".join(f"M{start} {i}h{length}v1h-{length}z" for i, start, length in cells)
                place = f"matrix({width:.4f} 0 0 {height:.4f} {x:.2f} {y:.2f})"
                look: dict[str, Value] = {"class": f"{style} crisp", "d": d, "transform": place}
                self._marks.append(Mark("path", look))

    def render(self, *, title: str, description: str, name: str, style: str | None = None) -> str:
        """Return the picture as an SVG element.

        Args:
            title: Title, for readers who cannot see the picture.
            description: Description, for readers who cannot see the picture.
            name: Id, unique on the page.
            style: Colours and patterns of a picture in its own file; None for a page's picture.
        """
        standalone = style is not None
        margin = _MARGIN if standalone else 0
        width, height = (_number(side + 2 * margin) for side in (self.width, self.height))
        marks = "\n".join(mark.render(standalone=standalone) for mark in self._marks)
        view = f'viewBox="{-margin} {-margin} {width} {height}"'
        head = f'<title id="{name}-t">{escape(title)}</title>'
        head += f'<desc id="{name}-d">{escape(description)}</desc>'
        label = f'role="img" aria-labelledby="{name}-t {name}-d"'
        if not standalone:
            return f'<svg {view} {label} id="{name}">{head}\n{marks}\n</svg>'
        size = f'width="{width}" height="{height}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} {label}>{head}{style}'
            f'<rect class="paper" x="{-margin}" y="{-margin}" {size}/>\n{marks}\n</svg>\n'
        )


def _stretches(row: Sequence[str | None], *, joined: bool) -> Iterable[tuple[int, int, str]]:
    """Start, length and style of cells, neighbours of one style joined if asked."""
    start = 0
    while start < len(row):
        style, end = row[start], start + 1
        while joined and end < len(row) and row[end] == style:
            end += 1
        if style is not None:
            yield start, end - start, style
        start = end


def _written(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
