"""Visible text: names from elsewhere without characters that act on a terminal or a reader."""

import re

_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_LINES = re.compile("[\t\n]")


def visible(text: str) -> str:
    r"""Return a text with control characters as escapes; tabs and ends of lines stay.

    Escaped are the control characters C0 and C1 (ESC, NUL and so on), those that change the
    direction of text, and lone surrogates.

    >>> visible("a\x1b[2Jb")
    'a\\u001b[2Jb'
    """
    return _ACTING.sub(_escape, text)


def visible_name(text: str) -> str:
    r"""Return a name as `visible` does, on one line.

    >>> visible_name("a\nb")
    'a\\u000ab'
    """
    return _LINES.sub(_escape, visible(text))


def as_cell(value: object) -> object:
    """Return a cell of a CSV file; text that a spreadsheet would take for a formula is quoted.

    >>> as_cell("=1+1"), as_cell(-2)
    ("'=1+1", -2)
    """
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


def _escape(found: "re.Match[str]") -> str:
    return f"\\u{ord(found[0]):04x}"
