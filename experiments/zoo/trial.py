"""One network: which share of it can change, and whether what changes is right."""

import copy
import re
import time
from typing import Any

import torch
from torch import Tensor, nn

from growmas import Plan, Structure
from growmas.batches import example_forward, float_tensors
from growmas.errors import GrowmasError
from growmas.structure.units.placement import placements

TOLERANCE = 1e-4
"""Largest change of the output relative to its largest entry."""


def tried(model: nn.Module, inputs: Any, others: Any, most: int) -> dict[str, Any]:
    """Analyse, then grow, undo, prune, train and view groups that differ in more than numbers.

    Args:
        model: The network.
        inputs: What it is analysed and verified on.
        others: Other inputs, on which the function is compared.
        most: How many groups to try.
    """
    model.eval()
    used = taking_part(model, inputs)
    start = time.process_time()
    structure = made(model, inputs)
    analysis = time.process_time() - start
    start = time.process_time()
    found: dict[str, Any] = {
        "analysis_s": round(analysis, 2),
        "listed": len(structure.groups),
    }
    if hasattr(structure, "check"):
        structure.check()
    found |= {
        "check_s": round(time.process_time() - start, 2),
        "groups": len(structure.groups),
        "parameters": structure.parameters,
        "share": share(structure, lambda group: True, used),
        "grows": share(structure, lambda group: group.can_grow, used),
        "heads": sum("heads" in group.kind for group in structure.groups.values()),
        "fixed": reasons(structure),
    }
    structure.begin_task("as it came")
    failures: list[str] = []
    tries = 0
    for group in distinct(structure)[:most]:
        tries += 1
        try:
            failures += [f"{group.name}: {what}" for what in wrong(structure, group, others)]
        except GrowmasError as error:
            failures.append(f"{group.name} refused: {error}"[:300])
        except Exception as error:
            failures.append(f"{group.name} raw {type(error).__name__}: {error}"[:300])
    return {**found, "tried": tries, "failures": failures}


def made(model: nn.Module, inputs: Any) -> Structure:
    """Make a structure; layers that take no part are left out, as the message says."""
    try:
        return Structure(model, inputs)
    except GrowmasError as error:
        if "take no part" not in str(error):
            raise
        return Structure(model, inputs, ignore=quoted(str(error).split(" take no part")[0]))


def quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def taking_part(model: nn.Module, inputs: Any) -> set[int]:
    """Return the identities of the parameters that the output depends on."""
    twin = copy.deepcopy(model)  # some models keep what they have computed
    trained = [p.requires_grad_() for p in twin.parameters() if p.is_floating_point()]
    with torch.enable_grad():
        found = [t for t in float_tensors(example_forward(twin, inputs)) if t.requires_grad]
        total = torch.stack([t.float().sum() for t in found]).sum()
    grads = torch.autograd.grad(total, trained, allow_unused=True)
    used = {id(p) for p, grad in zip(trained, grads, strict=True) if grad is not None}
    pairs = zip(twin.parameters(), model.parameters(), strict=True)
    return {id(own) for other, own in pairs if id(other) in used}


def share(structure: Structure, chosen: Any, used: set[int]) -> float:
    """Share of the used parameters that lie in a chosen group."""
    held = {
        id(place.tensor)
        for group in structure.groups.values()
        if chosen(group)
        for place in placements(structure.model, group)
    }
    sizes = {id(p): p.numel() for p in structure.model.parameters() if id(p) in used}
    return round(sum(n for key, n in sizes.items() if key in held) / max(1, sum(sizes.values())), 4)


def reasons(structure: Structure) -> dict[str, int]:
    counted: dict[str, int] = {}
    for reason in structure.fixed.values():
        text = re.sub(r"'[^']*'", "'…'", reason)[:140]
        counted[text] = counted.get(text, 0) + 1
    return dict(sorted(counted.items(), key=lambda item: -item[1])[:8])


def distinct(structure: Structure) -> list[Any]:
    last = {re.sub(r"\d+", "", name): group for name, group in structure.groups.items()}
    return list(last.values())


def outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        return float_tensors(example_forward(model, inputs))


def moved(new: list[Tensor], old: list[Tensor], what: str) -> list[str]:
    """Return how far outputs move, where that is beyond rounding."""
    off = [
        (float((n - o).abs().max()), float(o.abs().max())) for n, o in zip(new, old, strict=True)
    ]
    return [f"{what} by {d:.2g}" for d, size in off if size and d > TOLERANCE * max(size, 1e-3)]


def wrong_view(
    structure: Structure, name: str, born: Any, others: Any, before: list[Tensor]
) -> list[str]:
    """Change all entries of the units that were born, and compare the view of the task before.

    It must answer as before the growth, and bit for bit as if nothing had been changed since.
    """
    if structure.groups[name].residual:
        return []  # its views are refused, since norms run over its units
    task = structure.task - 1
    with structure.view(task):
        unchanged = outputs(structure.model, others)
    ids = structure.groups[name].unit_ids
    places = [ids.index(unit) for unit in born]
    with torch.no_grad():
        for place in placements(structure.model, structure.groups[name], ("out", "in")):
            entries = place.positions[places].flatten()
            drawn = torch.randn_like(place.tensor.index_select(place.axis.dim, entries))
            place.tensor.index_copy_(place.axis.dim, entries, drawn)
    with structure.view(task):
        found = outputs(structure.model, others)
    different = not all(map(torch.equal, found, unchanged))
    return moved(found, before, "the view of the task before moves") + (
        ["the view of the task before shows what became of later units"] if different else []
    )


def wrong(structure: Structure, group: Any, others: Any) -> list[str]:
    """List the properties that a group violates."""
    model, found = structure.model, []
    if group.can_grow:
        state = {name: value.clone() for name, value in model.state_dict().items()}
        before = outputs(model, others)
        structure.begin_task(f"{group.name} grows")
        edit = structure.apply(Plan(grow={group.name: 2}))
        found += moved(outputs(model, others), before, "grown, the output moves")
        found += wrong_view(structure, group.name, edit.born[group.name], others, before)
        twin = copy.deepcopy(model)
        with torch.enable_grad():
            found_there = float_tensors(example_forward(twin, others))
            torch.stack([t.float().square().mean() for t in found_there]).sum().backward()
        if group.can_shrink:
            structure.apply(Plan(prune=edit.born))
            after = model.state_dict()
            if not all(torch.equal(value, after[name]) for name, value in state.items()):
                found.append("grown and pruned, it is not what it was")
    if (group.can_shrink or group.approximate) and group.width > 1:
        structure.apply(Plan(prune={group.name: group.unit_ids[:1]}, approximate=True))
    return found
