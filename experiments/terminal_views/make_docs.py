"""Write docs/terminal.md, docs/show.svg and docs/lifelines.svg from a real run; see README.md."""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import growmas as gm
from growmas.data import batches, load_source, split_stream

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
EPOCHS, BATCH, RATE, STRENGTH = 6, 64, 3e-3, 0.1
GROWMAS = Path(sys.executable).with_name("growmas")

SCREENS = {
    "show": ["show", "digits", "--explain"],
    "log": ["log", "digits", "-n", "4"],
    "diff": ["diff", "digits", "2/3", "8/9", "--explain"],
    "unit": ["unit", "digits", "fc#{unit}", "--explain"],
    "lifelines": ["lifelines", "digits", "--group", "fc"],
    "survival": ["survival", "digits"],
    "graph": ["graph", "digits"],
    "importance": ["importance", "digits", "--explain"],
    "diff of runs": ["diff", "digits", "fixed", "--explain"],
}


class Net(nn.Module):
    """A small residual network with a head for each pair of digits."""

    def __init__(self, width: int = 12, hidden: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.fc = nn.Linear(width * 49, hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, 2) for _ in range(5))

    def forward(self, images: Tensor, head: int | None = None) -> Tensor | tuple[Tensor, ...]:
        """Return the logits of one head, or of all."""
        x = F.relu(self.stem(images))
        x = F.relu(x + self.conv2(F.relu(self.conv1(x))))
        hidden = F.relu(self.fc(F.max_pool2d(x, 2).flatten(1)))
        if head is not None:
            return self.heads[head](hidden)
        return tuple(module(hidden) for module in self.heads)


def learn(path: Path, *, grow: bool) -> None:
    """Learn five pairs of digits, one after another, from 5,000 MNIST images."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    stream = split_stream(load_source("mnist5k"), tasks=5, scenario="task", generator=generator)
    net = Net() if grow else Net(24, 64)
    structure = gm.Structure(net, stream.tasks[0].train.inputs[:4], generator=generator)
    mas = gm.MAS(net, strength=STRENGTH)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    policies = {
        "grow": [gm.ReplaceDead(), gm.GrowBySaturation(threshold=0.25, most=10)],
        "prune": gm.PruneBelow(0.1),
    }
    with gm.TopologyTracker(structure, path) as tracker:
        manager = gm.StructuralManager(
            structure, mas=mas, optimizer=optimizer, tracker=tracker, **(policies if grow else {})
        )
        for task in stream.tasks:
            manager.begin_task(task.name, init="split" if task.index == 2 else "zero_out")
            for _ in range(EPOCHS):
                for images, labels in batches(task.train, BATCH, generator=generator):
                    loss = F.cross_entropy(net(images, task.head), labels) + mas.penalty()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            manager.end_task(
                [images for images, _ in batches(task.train, 256)],
                forward=lambda model, images, head=task.head: model(images, head),
            )
            tracker.snapshot(metrics=accuracies(structure, stream.tasks[: task.index + 1]))


@torch.no_grad()
def accuracies(structure: gm.Structure, tasks) -> dict[str, float]:
    """Return the accuracy on each task so far, in the view of that task, and the mean."""
    found = {}
    for task in tasks:
        with structure.view(task.name):
            answers = structure.model(task.test.inputs, task.head).argmax(1)
        found[f"accuracy/{task.name}"] = float((answers == task.test.labels).float().mean())
    return found | {"accuracy": sum(found.values()) / len(found)}


def printed(folder: Path, arguments: list[str]) -> str:
    """Return the text that a command prints into a pipe, 80 columns wide."""
    command = [GROWMAS, *arguments, "--width", "80"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.rstrip()


def split_unit(path: Path) -> int:
    """Return a living unit that others were split from: its life has most to show."""
    with gm.TopologyHistory(path) as history:
        lines = history.lifelines("fc")
    parents = {line.parent for line in lines} - {None}
    alive = [line.unit for line in lines if line.death_task is None]
    return next((unit for unit in alive if unit in parents), alive[0])


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, grow in (("digits", True), ("fixed", False)):
            learn(folder / "runs" / name / "history.db", grow=grow)
        unit = split_unit(folder / "runs" / "digits" / "history.db")
        text = (HERE / "terminal.md.template").read_text(encoding="utf-8")
        for name, arguments in SCREENS.items():
            arguments = [argument.format(unit=unit) for argument in arguments]
            shown = " ".join(f"'{each}'" if "#" in each else each for each in arguments)
            screen = f"```console\n$ growmas {shown}\n{printed(folder, arguments)}\n```"
            assert text.count(f"<<{name}>>") == 1, name
            text = text.replace(f"<<{name}>>", screen)
        (DOCS / "terminal.md").write_text(text, encoding="utf-8")
        for name in ("show", "lifelines"):
            picture = ["--svg", str(DOCS / f"{name}.svg"), "--width", "96"]
            subprocess.run(
                [GROWMAS, *SCREENS[name], *picture], cwd=folder, check=True, capture_output=True
            )


if __name__ == "__main__":
    main()
