"""The ablation: one part left out or changed at a time, on ten permutations."""

from cases import CLASSES, MULTIPLIED, TASKS, Case, Study, grown, mlp, permuted, selected

BASE = permuted(10, 3, goal="")


def changed(name, fixed=None, **parts):
    whole = grown(24, 0.02, TASKS, grow=selected(24, 1), prune={"ratio": 0.02})
    return Case(
        name, {**whole, **parts}, mlp(64, 64), like=(BASE.title, "growmas"), fixed=fixed or {}
    )


VIEWS_OFF = ("without views",)

ABLATION = Study(
    "ablation: " + BASE.title,
    BASE.stream,
    BASE.training,
    (
        changed("all parts"),
        changed("without views"),
        changed("without MAS", fixed={"method.strength": 0.0}),
        changed("without pruning", prune=None),
        changed("without reconstruction", prune={"ratio": 0.02, "reconstruct": False}),
        changed("grown without selection", grow={"units": 24}),
        changed("hard protection of a third as well", protect=0.33),
        changed("entropy for a context", context={"kind": "entropy"}),
        changed("Gaussians of classes multiplied", context={**CLASSES, **MULTIPLIED}),
    ),
)
