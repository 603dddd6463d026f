"""Halves twelve networks with growmas and with Torch-Pruning's MetaPruner, and compares.

python experiments/zoo/metapruner.py        metapruner.jsonl, a line for each network and tool

Every group of channels, neurons or heads loses half of its units. Before a group is cut, the
columns that read the units are set to zero, which silences them; the output of the smaller network
must be the same. Norms over all channels and sizes of heads change it in any case: groups with such
are only run. One batch norm is in eval mode and one layer frozen beforehand, and must stay so.
"""

import copy
import json
import re
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import catalogue
import torch
import torch_pruning as tp
from torch import Tensor, nn
from trial import made, outputs

from growmas import Plan
from growmas.batches import example_forward, float_tensors
from growmas.errors import GrowmasError

RESULTS = Path(__file__).parent / "metapruner.jsonl"
LIMIT = 20
MODELS = (
    ("timm", "resnet18"), ("timm", "mobilenetv2_050"), ("timm", "efficientnet_lite0"),
    ("others", "torchvision/squeezenet1_1"), ("timm", "convnext_atto"),
    ("timm", "vit_tiny_patch16_224"),
    ("others", "torchvision/shufflenet_v2_x0_5"), ("others", "ultralytics/yolov8n"),
    ("others", "monai/UNet"), ("transformers", "bert"), ("transformers", "gpt2"),
    ("transformers", "llama"),
)  # fmt: skip
ACROSS = re.compile("LayerNorm|GroupNorm|RMSNorm|Attention")
"""Classes that let one channel change the others."""


def prepared(model: nn.Module, *, freeze: bool) -> tuple[dict[str, bool], dict[str, bool]]:
    """Put one batch norm into eval mode, freeze a layer, and return all modes and flags."""
    model.train()
    for module in list(model.modules())[::-1]:
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            module.eval()
            break
    first = next(m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    first.requires_grad_(not freeze)
    return state(model)


def state(model: nn.Module) -> tuple[dict[str, bool], dict[str, bool]]:
    modes = {name: module.training for name, module in model.named_modules()}
    return modes, {name: p.requires_grad for name, p in model.named_parameters()}


def deviation(model: nn.Module, others: Any, before: list[Tensor]) -> float:
    """Return the largest change of the outputs relative to their largest entry."""
    after = evaluated(model, others)
    worst = [
        float((a - b).abs().max()) / max(float(b.abs().max()), 1e-6)
        for a, b in zip(after, before, strict=True)
    ]
    return max(worst)


def evaluated(model: nn.Module, inputs: Any) -> list[Tensor]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        return outputs(model, inputs)
    finally:
        for module, mode in modes.items():
            module.training = mode


def halved_by_growmas(
    model: nn.Module, inputs: Any, others: Any, *, with_heads: bool = True
) -> dict[str, Any]:
    structure = made(model, inputs)
    worst, compared, run, refused = 0.0, 0, 0, 0
    for name, group in list(structure.groups.items()):
        group = structure.groups[name]
        if group.width < 2 or not (group.can_shrink or group.approximate):
            continue
        units = group.unit_ids[: group.width // 2]
        before = evaluated(silenced(model, group), others) if group.can_shrink else None
        try:
            structure.apply(Plan(prune={name: units}, approximate=True))
        except GrowmasError:
            refused += 1
            continue
        if before is None:
            run += 1
        else:
            compared += 1
            worst = max(worst, deviation(model, others, before))
    return {"compared": compared, "only run": run, "refused": refused, "worst": worst}


def silenced(model: nn.Module, group: Any) -> nn.Module:
    """Copy a model, and set to zero what reads the first half of a group's units."""
    model = copy.deepcopy(model)
    for member in group.members:
        owner = model.get_submodule(member.layer)
        gone = member.positions[: group.width // 2].flatten()
        for axis in member.axes.side(member.side):
            tensor = getattr(owner, axis.tensor, None)
            if axis.role == "in" and tensor is not None:
                tensor.data.index_fill_(axis.dim, gone, 0)
    return model


def halved_by_metapruner(
    model: nn.Module, inputs: Any, others: Any, *, with_heads: bool = True
) -> dict[str, Any]:
    heads = dict(attentions(model)) if with_heads else {}
    sizes = {layer: layer.out_features // count for layer, (_, count) in heads.items()}
    last = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    heading = output_layers(model, inputs) or [last]
    pruner = tp.pruner.MetaPruner(
        model,
        inputs,
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=heading,
        num_heads={layer: count for layer, (_, count) in heads.items()},
        prune_num_heads=True,
        prune_head_dims=False,
        head_pruning_ratio=0.5,
        forward_fn=lambda model, given: float_tensors(example_forward(model, given)),
    )
    worst, compared, run = 0.0, 0, 0
    for group in pruner.step(interactive=True):
        whole = not any(ACROSS.search(type(d.target.module).__name__) for d, _ in group)
        whole = whole and not any(layer in heads for layer in members(group))
        if whole:
            silence(pruner.DG, group)
            before = evaluated(model, others)
        group.prune()
        for layer, (attention, _) in heads.items():
            follow(attention, layer, layer.out_features // sizes[layer])
        if not whole:
            run += 1
            continue
        compared += 1
        worst = max(worst, deviation(model, others, before))
    evaluated(model, others)
    return {"compared": compared, "only run": run, "refused": 0, "worst": worst}


def members(group: Any) -> list[Any]:
    return [dependency.target.module for dependency, _ in group]


def silence(graph: Any, group: Any) -> None:
    """Set to zero the columns that read the units that a group of Torch-Pruning removes."""
    for dependency, indices in group:
        layer = dependency.target.module
        if graph.is_out_channel_pruning_fn(dependency.handler):
            continue
        if (
            isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)
            and getattr(layer, "groups", 1) == 1
        ):
            turned = getattr(layer, "transposed", False)
            layer.weight.data.index_fill_(0 if turned else 1, torch.tensor(indices), 0)


QUERIES = {"qkv": "num_heads", "query": "num_attention_heads", "q_proj": "num_heads"}
"""Name of a layer that gives queries -> the attribute with the number of heads."""


def attentions(model: nn.Module) -> Any:
    """Give the layers that heads lie in, as the examples of Torch-Pruning do."""
    for module in model.modules():
        for name, attribute in QUERIES.items():
            layer = getattr(module, name, None)
            count = getattr(module, attribute, None)
            size = getattr(module, "head_dim", None)
            if isinstance(layer, nn.Linear) and (count or size):
                for each in ("qkv", "query", "key", "value", "q_proj", "k_proj", "v_proj"):
                    part = getattr(module, each, None)
                    if isinstance(part, nn.Linear):
                        own = count if count and each == "qkv" else None
                        own = own or (part.out_features // size if size else count)
                        yield part, (module, own)


def follow(attention: nn.Module, layer: nn.Module, heads: int) -> None:
    """Write the number of heads into the module, which Torch-Pruning leaves to its user."""
    if layer is getattr(attention, "qkv", None):
        attention.num_heads = heads
        attention.attn_dim = layer.out_features // 3
    if layer is getattr(attention, "query", None):
        attention.num_attention_heads, attention.all_head_size = heads, layer.out_features


def output_layers(model: nn.Module, inputs: Any) -> list[nn.Module]:
    """Return the layers whose channels are those of the output, which must not be cut."""
    structure = made(copy.deepcopy(model), inputs)
    names = [n for n, why in structure.fixed.items() if "reaches the output" in why]
    return [model.get_submodule(name) for name in names]


TOOLS = {"growmas": halved_by_growmas, "MetaPruner": halved_by_metapruner}


def compared(library: str, name: str, tool: str) -> dict[str, Any]:
    """Halve one network with one tool; more simply where that fails, and say so."""
    failed = {}
    for way, options in WAYS.items():
        found = once(library, name, tool, **options)
        if "error" not in found:
            return {**found, "failed": failed}
        failed[way] = found["error"]
        if "CPU s" in found["error"]:
            break
    return {"failed": failed}


WAYS: dict[str, dict[str, bool]] = {
    "with a frozen layer": {"freeze": True, "with_heads": True},
    "with heads": {"freeze": False, "with_heads": True},
    "without heads": {"freeze": False, "with_heads": False},
}


def once(library: str, name: str, tool: str, *, freeze: bool, with_heads: bool) -> dict[str, Any]:
    """Halve one network with one tool."""

    def ended(number: int, frame: Any) -> None:
        raise TimeoutError(f"over {LIMIT} CPU s")

    torch.manual_seed(0)
    model, inputs, others = catalogue.example(library, name)
    before = prepared(model, freeze=freeze)
    size = sum(p.numel() for p in model.parameters())
    signal.signal(signal.SIGPROF, ended)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        found = TOOLS[tool](model, inputs, others, with_heads=with_heads)
        evaluated(model, others)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    after = state(model)
    left = sum(p.numel() for p in model.parameters())
    same = [{n: a.get(n) for n in b} == b for a, b in zip(after, before, strict=True)]
    return {**found, "left": round(left / size, 3), "modes": same[0], "requires_grad": same[1]}


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    known = {(line["model"], line["tool"]) for line in map(json.loads, lines)}
    for library, name in MODELS:
        for tool in TOOLS:
            if (name, tool) in known or (sys.argv[1:] and name not in sys.argv[1:]):
                continue
            found = compared(library, name, tool)
            with RESULTS.open("a") as file:
                file.write(json.dumps({"model": name, "tool": tool, **found}) + "\n")
            print(name, tool, found, flush=True)


if __name__ == "__main__":
    main()
