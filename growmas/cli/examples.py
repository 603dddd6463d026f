"""Examples below the help of each command."""

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "run": (
        "growmas run digits_smoke",
        "growmas run mine.yaml seed=1 training.epochs=20 --out runs/again",
        "growmas run mine.yaml --dry-run",
        "growmas run mine.yaml --resume",
    ),
    "sweep": (
        "growmas sweep mine.yaml seed=1..5 method.strength=0.1,1 --jobs 4",
        "growmas sweep mine.yaml seed=1..5 --shard 1/4",
        "growmas sweep with_tune.yaml --jobs 4",
        "growmas sweep mine.yaml seed=1..5 --engine ray -E address=auto -E gpus=0.5",
        "growmas sweep mine.yaml seed=1..5 --engine slurm -E partition=gpu",
    ),
    "prune": (
        "growmas prune mymodel:Net --data images.npz --flops 0.5 -o slim.safetensors",
        "growmas prune timm:resnet18 --data photos/ --parameters 0.3 --distil 200",
        "growmas prune runs/mine --task 0 --ratio 0.25 -o slim.pt2",
    ),
    "configs": (
        "growmas configs",
        "growmas configs digits_smoke > mine.yaml",
    ),
    "keys": (
        "growmas keys method",
        "growmas keys stream.source",
        "growmas keys --schema > growmas.schema.json",
    ),
    "show": (
        "growmas show digits-smoke",
        "growmas show run.db --group fc1 --svg widths.svg",
    ),
    "log": (
        "growmas log digits-smoke",
        "growmas log digits-smoke -n 0 --group fc1 --reverse",
    ),
    "diff": (
        "growmas diff digits-smoke 0 4",
        "growmas diff runs/mine runs/other",
    ),
    "unit": ("growmas unit digits-smoke 'fc1#17'",),
    "lifelines": (
        "growmas lifelines digits-smoke --group fc1",
        "growmas lifelines digits-smoke --all --width 120",
    ),
    "survival": ("growmas survival digits-smoke --group fc1",),
    "graph": (
        "growmas graph digits-smoke",
        "growmas graph digits-smoke --task 0 --group fc1",
    ),
    "importance": ("growmas importance digits-smoke --explain",),
    "shifts": ("growmas shifts task-free-smoke",),
    "curves": (
        "growmas curves digits-smoke",
        "growmas curves digits-smoke --json > curves.json",
    ),
    "compare": (
        "growmas compare runs/mine runs/other",
        "growmas compare runs/mine-sweep --metric forgetting --explain",
        "growmas compare runs/mine-sweep --baseline kind=mas --format latex",
    ),
    "export": (
        "growmas export digits-smoke --network --format pt2 -o net.pt2",
        "growmas export digits-smoke --graph lineage -o units.graphml",
        "growmas export run.db --table events -o events.csv",
    ),
    "ls": (
        "growmas ls",
        "growmas ls runs/mine-sweep --sort accuracy --filter 'mas finished'",
    ),
    "report": (
        "growmas report digits-smoke",
        "growmas report runs/mine-sweep -o study.html",
        "growmas report digits-smoke --figures figures --png",
    ),
    "watch": (
        "growmas watch",
        "growmas watch runs/mine-sweep",
    ),
    "doctor": (
        "growmas doctor",
        "growmas doctor digits-smoke",
    ),
}


def examples(command: str) -> str:
    """Return the examples of a command as the last paragraph of its help.

    It begins with the mark by which click leaves its lines as they are.

    >>> examples("watch").splitlines()[1:]
    ['Examples:', '  growmas watch', '  growmas watch runs/mine-sweep']
    """
    lines = "".join(f"\n  {each}" for each in EXAMPLES[command])
    return f"\b\nExamples:{lines}"
