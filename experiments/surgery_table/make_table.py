"""Writes the end of docs/surgery.md: what grows and shrinks, tried on every group.

python experiments/surgery_table/make_table.py        1 minute
"""

import re
from functools import partial
from pathlib import Path

import networks
import torch
import transformer_models

from growmas import Plan, Structure

DOCUMENT = Path(__file__).parents[2] / "docs" / "surgery.md"

HEAD = "| model | groups | units | grows | shrinks |"
"""The first line of the table; what stands before it in the document is written by hand."""


def table(attempt: bool = True) -> str:
    """Return the table in Markdown; without an attempt it says what the analysis promises."""
    rows = [HEAD, "|---|---|---|---|---|"]
    own = {f"{name} (own)": partial(networks.own, name) for name in networks.OWN}
    real = {name: partial(transformer_models.example, name) for name in transformer_models.MODELS}
    for name, example in {**own, **real}.items():
        for pattern, names, what in _rows(Structure(*example()), attempt):
            times = f" (× {len(names)})" if len(names) > 1 else ""
            rows.append(f"| {name} | `{pattern}`{times} | {what} |")
    return "\n".join(rows)


def _rows(structure: Structure, attempt: bool) -> list[tuple[str, list[str], str]]:
    """(pattern, names, what to say) of groups that differ in their numbers alone."""
    said = {}
    for group in list(structure.groups.values()):
        if attempt and group.can_grow:
            structure.apply(Plan(grow={group.name: 1}))
        if attempt and (group.can_shrink or group.approximate):
            structure.apply(Plan(prune={group.name: group.unit_ids[:1]}, approximate=True))
        grows = f"no: {group.no_grow}" if group.no_grow else "yes"
        exact = "approximately" if group.approximate else f"no: {group.no_shrink}"
        shrinks = exact if group.no_shrink else "yes"
        said[group.name] = f"{group.kind} | {_starred(grows)} | {_starred(shrinks)}"
    said |= {group: f"| no: {_starred(reason)} | no" for group, reason in structure.fixed.items()}
    rows: dict[tuple[str, str], list[str]] = {}
    for group, text in said.items():
        rows.setdefault((_starred(group), text), []).append(group)
    return [(pattern, names, text) for (pattern, text), names in rows.items()]


def _starred(text: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.|$|')", "*", text)


def main() -> None:
    torch.set_num_threads(1)
    by_hand = DOCUMENT.read_text().split(HEAD)[0]
    DOCUMENT.write_text(f"{by_hand}{table()}\n")


if __name__ == "__main__":
    main()
