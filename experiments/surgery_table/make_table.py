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

HEADING = "## Which network, which units"

INTRODUCTION = f"""\
{HEADING}

The table lists small networks of our own (`experiments/surgery_table/networks.py`), one for each
kind of wiring, and then models of Hugging Face `transformers`, small and with random weights.
Every group was actually grown by one unit and, where the table says so, pruned by one, and
`apply` verified both: after growing, the output was unchanged (the tests allow 2e-6 of the
largest output); after pruning, it was that of the same model with the unit masked. Layers that
repeat share a row: `*` stands for their numbers. If a group is refused, its row has the reason,
as `structure.fixed` gives it.

The width of a pre-norm transformer, that is of its embeddings, grows by the rule of LEMON (arXiv
2310.07999): fresh rows are the mean of the others before a LayerNorm and zero before an RMSNorm;
the gains and epsilons of the norms are rescaled, and so are Ω and the anchors of the gains. This
width shrinks only approximately, and a view of a task before the growth is refused, because the
norms take in all existing units. T5 returns its residual stream as `encoder_last_hidden_state`, so
its width is fixed; a structure made with `forward=lambda model, inputs: model(**inputs).logits` can
grow it.

Made by `python experiments/surgery_table/make_table.py`."""


def table(attempt: bool = True) -> str:
    """Return the table in Markdown; without an attempt it says what the analysis promises."""
    rows = ["| model | groups | units | grows | shrinks |", "|---|---|---|---|---|"]
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
    written_by_hand = DOCUMENT.read_text().split(HEADING)[0]
    DOCUMENT.write_text(f"{written_by_hand}{INTRODUCTION}\n\n{table()}\n")


if __name__ == "__main__":
    main()
