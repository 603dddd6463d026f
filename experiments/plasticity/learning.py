"""Methods that learn a stream, one step after another."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from networks import NETWORKS
from protocols import PROTOCOLS
from torch import Tensor, nn

import growmas as gm
from growmas.training.methods import (
    UPGD,
    ContinualBackprop,
    ContinuousCBP,
    L2Init,
    Method,
    ReDo,
    ShrinkPerturb,
)


class Ours(Method):
    """Plain training with `Plasticity`."""

    def __init__(
        self, structure: gm.Structure, *, optimizer: torch.optim.Optimizer, **settings: Any
    ) -> None:
        """Put the parts together."""
        super().__init__(structure)
        self.plasticity = gm.Plasticity(structure, optimizer, gm.ReplaceLowUtility(**settings))

    def step_done(self, task: object) -> None:
        """Replace units of low utility."""
        self.plasticity.step()


METHODS: Mapping[str, Callable[..., Method]] = {
    "plain": lambda s, o, seed, **_: Method(s),
    "fresh": lambda s, o, seed, **_: Method(s),
    "ours": lambda s, o, seed, **k: Ours(s, optimizer=o, **k),
    "cbp naive": lambda s, o, seed, **k: ContinualBackprop(s, optimizer=o, warm_up=False, **k),
    "cbp": lambda s, o, seed, **k: ContinualBackprop(s, optimizer=o, **k),
    "ccbp": lambda s, o, seed, **k: ContinuousCBP(s, seed=seed, **k),
    "redo": lambda s, o, seed, **k: ReDo(s, optimizer=o, **k),
    "l2_init": lambda s, o, seed, **k: L2Init(s, **k),
    "shrink_perturb": lambda s, o, seed, **k: ShrinkPerturb(s, seed=seed, **k),
    "upgd": lambda s, o, seed, **k: UPGD(s, seed=seed, **k),
}
"""Name -> (structure, optimizer, seed, settings) -> method; all settings are the defaults."""


def optimizer_of(name: str, net: nn.Module) -> torch.optim.Optimizer:
    """Return Adam, in one kernel, or SGD with momentum."""
    if name == "adam":
        return torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    return torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)


def learn(
    protocol: str,
    method: str,
    seed: int,
    optimizer_name: str,
    *,
    model: str = "mlp",
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Learn a stream and return the score of each task, and the units replaced.

    The score is the accuracy; for the regression it is the squared error.
    """
    torch.manual_seed(1000 + seed)
    net = NETWORKS[model]()
    start = copy.deepcopy(net.state_dict())
    structure = gm.Structure(net, torch.rand(4, 20 if model == "small" else 784))
    optimizer = optimizer_of(optimizer_name, net)
    learner = METHODS[method](structure, optimizer, seed, **settings or {})
    scores: list[float] = []
    for lesson in PROTOCOLS[protocol](seed):
        if method == "fresh":
            net.load_state_dict(start)
            optimizer = optimizer_of(optimizer_name, net)
        seen = []
        for x, y in lesson.batches:
            output = net(x)
            loss = F.mse_loss(output, y) if y.is_floating_point() else F.cross_entropy(output, y)
            if lesson.exam is None:
                seen.append(score(output, y))
            optimizer.zero_grad()
            loss.backward()
            learner.penalty_grad_()
            optimizer.step()
            learner.step_done(None)  # type: ignore[arg-type]
        if lesson.exam is not None:
            with torch.no_grad():
                seen = [score(net(x), y) for x, y in lesson.exam]
        scores.append(float(torch.cat(seen).mean()))
    plasticity = getattr(learner, "plasticity", None)
    return {"scores": scores, "replaced": 0 if plasticity is None else plasticity.replaced}


def score(output: Tensor, y: Tensor) -> Tensor:
    """Return [N], 1 for a right answer; for numbers the squared error."""
    with torch.no_grad():
        if y.is_floating_point():
            return (output - y).square().flatten()
        return (output.argmax(1) == y).float()
