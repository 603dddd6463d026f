"""Networks with everything that follows them, random plans, and their whole state."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import growmas as gm
from growmas.models.convnet import ConvNet
from growmas.models.mlp import MLP
from growmas.models.resnet import ResNet
from growmas.models.vit import ViT

IMAGE = (2, 8, 8)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MLP": lambda: MLP((6,), [10, 8], [3]),
    "conv with norms": lambda: ConvNet(IMAGE, [6, 6], [8], [3]),
    "ResNet": lambda: ResNet(IMAGE, [6, 8], 1, [3]),
    "transformer": lambda: ViT(
        IMAGE, patch=4, width=8, depth=2, heads=2, hidden=10, head_sizes=[3]
    ),
    "multi-head": lambda: MLP((6,), [10], [2, 3, 2, 4]),
}
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, amsgrad=True),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=1e-4, momentum=0.5),
}


@dataclass
class Scene:
    """A network, and what follows it through edits.

    Attributes:
        structure: Its units.
        optimizer: Has taken a step.
        mas: Has been consolidated.
        protect: Hard protection.
        context: One Gaussian a task.
        tracker: Writes `history`.
        history: Path of the history.
        inputs: [N, ...].
    """

    structure: gm.Structure
    optimizer: torch.optim.Optimizer
    mas: gm.MAS
    protect: gm.HardProtection
    context: gm.GaussianContext
    tracker: gm.TopologyTracker
    history: Path
    inputs: Tensor

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.structure.model

    def train(self, steps: int, *, seed: int) -> None:
        """Take a few gradient steps with the penalty."""
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            inputs = torch.rand(self.inputs.shape, generator=generator)
            self.optimizer.zero_grad()
            (total(self.model.train()(inputs)) + self.mas.penalty()).backward()
            self.optimizer.step()

    def begin_task(self, name: str) -> None:
        """Begin a task, learn it, and remember its inputs and norms."""
        self.structure.begin_task(name)
        self.train(2, seed=len(self.structure.tasks))
        self.mas.consolidate([self.inputs], forward=lambda model, x: first(model(x)))
        self.structure.remember_norms()
        self.context.update(name, self.inputs + len(self.structure.tasks))

    def apply(self, plan: gm.Plan, **options: Any) -> gm.Edit:
        """Carry out a plan; optimizer, penalty and protection follow."""
        followers = [self.optimizer, self.mas, self.protect]
        return self.structure.apply(plan, followers=followers, **options)


def scene(network: str, optimizer: str, folder: Path, *, seed: int = 0) -> Scene:
    """Return a fresh scene, in its first task."""
    torch.manual_seed(seed)
    model = NETWORKS[network]()
    shape = IMAGE if network in ("conv with norms", "ResNet", "transformer") else (6,)
    inputs = torch.rand(8, *shape)
    structure = gm.Structure(model, inputs, generator=torch.Generator().manual_seed(seed))
    history = folder / "history.db"
    made = Scene(
        structure,
        OPTIMIZERS[optimizer](model.parameters()),
        gm.MAS(model, strength=0.1),
        gm.HardProtection(model, fraction=0.1),
        gm.GaussianContext(4),
        gm.TopologyTracker(structure, history, overwrite=True),
        history,
        inputs,
    )
    made.begin_task("first")
    return made


def random_plan(scene: Scene, draw: random.Random, *, most: int = 24) -> gm.Plan:
    """Return a plan that prunes and grows up to three units in one or two groups."""
    prune: dict[str, list[int]] = {}
    grow: dict[str, int] = {}
    groups = scene.structure.groups
    for name in draw.sample(sorted(groups), k=min(draw.randint(1, 2), len(groups))):
        group = groups[name]
        spare = min(3, group.width - 2) if group.can_shrink else 0
        prune[name] = draw.sample(group.unit_ids, k=draw.randint(0, max(0, spare)))
        if group.can_grow and group.width < most:
            grow[name] = draw.randint(0, 3)
    return gm.Plan(prune=prune, grow=grow, reason="random")


def first(output: Any) -> Tensor:
    """Return the first output of a network with several."""
    return output[0] if isinstance(output, tuple) else output


def total(output: Any) -> Tensor:
    """Return a loss of all outputs."""
    return sum(
        each.square().mean() for each in (output if isinstance(output, tuple) else (output,))
    )


def everything(scene: Scene) -> dict[str, object]:
    """Return the whole state by part, so that it compares bit for bit."""
    model, generator = scene.model, scene.structure.generator
    with closing(sqlite3.connect(scene.history)) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master")]
        tables = {
            name: database.execute(f"SELECT * FROM {name}").fetchall()
            for name in names
            if not name.startswith(("units_", "events_", "sqlite_"))
        }
    parts = {
        "objects": [id(parameter) for parameter in model.parameters()],
        "attributes": [sizes(module) for module in model.modules()],
        "modes": [module.training for module in model.modules()],
        "gradients": [parameter.grad for parameter in model.parameters()],
        "model": model.state_dict(),
        "structure": scene.structure.state_dict(),
        "optimizer": scene.optimizer.state_dict(),
        "optimized": [id(p) for group in scene.optimizer.param_groups for p in group["params"]],
        "omega": scene.mas.state_dict(),
        "protection": scene.protect.state_dict(),
        "context": scene.context.state_dict(),
        "torch's random numbers": torch.get_rng_state(),
        "the structure's random numbers": generator and generator.get_state(),
        "Python's random numbers": random.getstate(),
        "history": tables,
    }
    return {name: flat(part) for name, part in parts.items()}


def sizes(module: nn.Module) -> dict[str, int]:
    """Return the whole numbers among the attributes of a module, such as `in_features`."""
    return {name: value for name, value in vars(module).items() if type(value) is int}


def flat(value: object) -> object:
    """Return a value that compares bit for bit."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.detach().contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return [(key, flat(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [flat(item) for item in value]
    return value
