"""Mistakes that a type checker must see; `make test` runs mypy over this file, nothing imports it.

An ignored error that mypy does not find is itself an error (`warn_unused_ignores`).
"""

import torch

import growmas as gm

net = torch.nn.Linear(2, 2)
structure = gm.Structure(net, torch.zeros(1, 2))

_ = gm.Structre  # type: ignore[attr-defined]
gm.Plan(prune={"fc": [1]}, growth={})  # type: ignore[call-arg]
structure.apply(gm.Plan(), init="split_out")  # type: ignore[arg-type]
structure.grow_head("fc", 2, init="ones")  # type: ignore[arg-type]
structure.saliency({}, criterion="size")  # type: ignore[arg-type]
gm.mas_importance(net, [], function="norm")  # type: ignore[arg-type]
gm.mas_importance(net, [], estimator="fast")  # type: ignore[arg-type]
gm.MAS(net, accumulate="add")  # type: ignore[arg-type]
