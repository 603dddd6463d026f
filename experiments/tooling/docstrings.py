"""Docstrings as the site shows them: θ* stays θ*, and an example is code."""

import re
from typing import Any

from griffe import Extension, Object

_CODE = re.compile(r"(``.*?``|`[^`\n]*`)", re.DOTALL)


class Plain(Extension):
    """A griffe extension that changes docstrings before they are read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Escape asterisks outside code, and name sections of doctests as griffe expects."""
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)


def plain(text: str) -> str:
    """Return a docstring in which an asterisk is one."""
    lines = []
    for line in re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE).split("\n"):
        if line.lstrip().startswith((">>>", "...")):
            lines.append(line)
            continue
        parts = _CODE.split(line)
        lines.append("".join(p if i % 2 else p.replace("*", r"\*") for i, p in enumerate(parts)))
    return "\n".join(lines)
