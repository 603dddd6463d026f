"""What each part is worth: one left out or changed at a time, on ten permutations."""

from cases import CLASSES, TASKS, TEN, Case, Study, grown, mlp, ten

BASE = ten(3)
LIKE = TEN


def changed(name, fixed=None, **parts):
    config = {**grown(24, 0.01, TASKS, prune={"ratio": 0.02}), **parts}
    return Case(name, config, mlp(64, 64), like=LIKE, fixed=fixed or {})


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
        changed(
            "overgrown, the best third kept", grow={"kind": "overgrow", "keep": 24, "after": 1}
        ),
        changed("hard protection of a third as well", protect=0.33),
        changed("entropy for a context", context={"kind": "entropy"}),
        changed("Gaussians of classes multiplied", context=CLASSES),
    ),
    (1, 2),
)
