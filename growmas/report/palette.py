"""Colours: two themes, safe for colour-blind readers, and their styles in CSS.

Born is blue and pruned is orange, which colour-blind readers can tell apart. Pruned is also
hatched, and a series has its own dash pattern and label, so that nothing depends on colour alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

LEVELS = 10
SERIES = 6
DASHES = ("none", "6 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2")
FONT = "ui-sans-serif, system-ui, 'Segoe UI', 'Helvetica Neue', Helvetica, Arial, sans-serif"

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Theme:
    """One set of colours.

    Attributes:
        plain: Variable -> colour.
        share: Three colours of accuracy, from low to high; levels lie between them.
        weight: Three colours of importance, from low to high; levels lie between them.
    """

    plain: Mapping[str, str]
    share: tuple[str, str, str]
    weight: tuple[str, str, str]

    def variables(self) -> dict[str, str]:
        """Return every variable and its colour, including levels and series."""
        levels = {
            f"{letter}{i}": _between(stops, i / (LEVELS - 1))
            for letter, stops in (("a", self.share), ("m", self.weight))
            for i in range(LEVELS)
        }
        return {**self.plain, **levels}


LIGHT = Theme(
    plain={
        "page": "#f6f5f1", "paper": "#ffffff", "ink": "#1b1d21", "soft": "#59616c",
        "rule": "#e7e5df", "axis": "#aaa89f", "kept": "#c5cdd8", "born": "#0f6cb4",
        "pruned": "#c2501c", "unused": "#9aa3ae", "low": "#1b1d21", "high": "#ffffff",
        "s0": "#0f6cb4", "s1": "#c2501c", "s2": "#00785a", "s3": "#a2487d", "s4": "#8a6500",
        "s5": "#4b5563",
    },
    share=("#ecf1f6", "#7fabd3", "#0a4377"),
    weight=("#f9efdf", "#dd9a5b", "#7a2b10"),
)  # fmt: skip
DARK = Theme(
    plain={
        "page": "#121417", "paper": "#191c20", "ink": "#eae8e3", "soft": "#a4abb5",
        "rule": "#2b2f36", "axis": "#5a616b", "kept": "#475261", "born": "#5fb2ee",
        "pruned": "#f2946b", "unused": "#727b87", "low": "#eae8e3", "high": "#101215",
        "s0": "#5fb2ee", "s1": "#f2946b", "s2": "#3fc79c", "s3": "#e08fbf", "s4": "#e0b84a",
        "s5": "#b6bdc7",
    },
    share=("#222b35", "#3f79ad", "#b5dcff"),
    weight=("#2c241d", "#a9622f", "#ffcf99"),
)  # fmt: skip

_MARKS = {
    "paper": "fill:{paper}",
    "t": "fill:{soft};font-size:11px",
    "tb": "fill:{ink};font-size:12px;font-weight:600",
    "tv": "fill:{ink};font-size:11px",
    "lo": "fill:{low};font-size:10.5px",
    "hi": "fill:{high};font-size:10.5px",
    "rule": "stroke:{rule};stroke-width:1",
    "axis": "stroke:{axis};stroke-width:1",
    "link": "stroke:{axis};stroke-width:1;fill:none",
    "stem": "stroke:{axis};stroke-width:2",
    "kept": "fill:{kept}",
    "born": "fill:{born}",
    "pruned": "fill:url(#hatch);stroke:{pruned};stroke-width:.75",
    "gone": "fill:{rule}",
    "life": "fill:{kept}",
    "unused": "fill:url(#dots)",
    "ring": "fill:{paper};stroke:{born};stroke-width:1.75",
    "dot": "fill:{born}",
    "frame": "fill:none;stroke:{ink};stroke-width:1.25",
    "hit": "fill:transparent",
    "solid": "stroke-dasharray:none",
    "tplus": "fill:{born};font-size:11px;font-weight:600",
    "tminus": "fill:{s1};font-size:11px;font-weight:600",
    "crisp": "shape-rendering:crispEdges",
}
_LAST = ("solid", "crisp")  # they override the other styles of a mark
_PATTERNS = (
    '<pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect class="paper" width="5" height="5"/>'
    '<rect class="stripe" width="2.5" height="5"/></pattern>'
    '<pattern id="dots" width="5" height="5" patternUnits="userSpaceOnUse">'
    '<rect class="paper" width="5" height="5"/><circle class="speck" cx="2.5" cy="2.5" r="1"/>'
    "</pattern>"
)


def page_styles() -> str:
    """Return CSS of all marks in both themes; the reader's system or button chooses one."""
    light, dark = (_declared(theme) for theme in (LIGHT, DARK))
    return (
        f":root{{{light}}}\n"
        "@media screen{:root[data-theme=dark]{" + dark + "}}\n"
        "@media screen and (prefers-color-scheme:dark){:root:not([data-theme=light]){"
        + dark
        + "}}\n"
        + _rules({name: f"var(--{name})" for name in LIGHT.variables()})
    )


def page_patterns() -> str:
    """Return the patterns, once for all pictures of a page."""
    return (
        '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>'
        f"{_PATTERNS}</defs></svg>"
    )


def file_styles() -> str:
    """Return styles and patterns of a picture in its own file, in the light theme."""
    rules = _rules(LIGHT.variables())
    return f"<defs>{_PATTERNS}</defs><style>text{{font-family:{FONT}}}\n{rules}</style>"


def level(share: float, letter: str) -> str:
    """Return the style of a cell for a share from 0 to 1: "a" accuracy, "m" importance."""
    return f"{letter}{round(max(0.0, min(1.0, share)) * (LEVELS - 1))}"


def on_level(share: float) -> str:
    """Return the style of a text on a cell with this share."""
    return "hi" if share > 0.5 else "lo"


def _declared(theme: Theme) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in theme.variables().items())


def _rules(colours: Mapping[str, str]) -> str:
    first = {name: rule for name, rule in _MARKS.items() if name not in _LAST}
    marks = {name: rule.format_map(colours) for name, rule in first.items()}
    marks |= {"stripe": f"fill:{colours['pruned']}", "speck": f"fill:{colours['unused']}"}
    for letter in "am":
        marks |= {f"{letter}{i}": f"fill:{colours[f'{letter}{i}']}" for i in range(LEVELS)}
    for i in range(SERIES):
        colour = colours[f"s{i}"]
        marks[f"l{i}"] = (
            f"fill:none;stroke:{colour};stroke-width:2;stroke-linejoin:round;"
            f"stroke-dasharray:{DASHES[i]}"
        )
        marks[f"p{i}"] = f"fill:{colour}"
        marks[f"w{i}"] = f"fill:{colour};opacity:.14"
        marks[f"n{i}"] = (
            f"fill:{colour};font-size:11px;font-weight:600;paint-order:stroke;"
            f"stroke:{colours['paper']};stroke-width:3px;stroke-linejoin:round"
        )
    marks |= {name: _MARKS[name] for name in _LAST}
    return "\n".join(f".{name}{{{rule}}}" for name, rule in marks.items())


def _between(stops: tuple[str, str, str], share: float) -> str:
    first, second = (stops[0], stops[1]) if share < 0.5 else (stops[1], stops[2])
    part = 2 * share - int(share >= 0.5)
    mixed = (round(a + (b - a) * part) for a, b in zip(_rgb(first), _rgb(second), strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def _rgb(colour: str) -> Rgb:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
