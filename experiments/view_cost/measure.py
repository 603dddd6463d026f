"""The cost of a view: forward passes inside and outside of one, in turn.

    python experiments/view_cost/measure.py [--device cpu] [--repeats 40]

Every network is grown by an eighth in every group; the view is that of the task before. Calls
inside and outside of it alternate, so that a busy machine slows both; the medians of their ratios
are printed.
"""

import argparse
import statistics
import time

import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

import growmas as gm
from growmas.models import ConvNet


def mlp():
    return nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def convnet():
    return ConvNet((1, 28, 28), channels=[16, 32], hidden=64, head_sizes=[10])


class ResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        config = ResNetConfig(
            hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=10
        )
        self.net = ResNetForImageClassification(config)

    def forward(self, images):
        return self.net(images).logits


CASES = {
    "MLP 784-256-256-10, 256 samples": (mlp, (256, 784)),
    "the same, 32 samples": (mlp, (32, 784)),
    "the same, 1 sample": (mlp, (1, 784)),
    "conv net 16-32-64, 256 images of 28 × 28": (convnet, (256, 1, 28, 28)),
    "ResNet-18, 16 images of 64 × 64": (ResNet18, (16, 3, 64, 64)),
    "ResNet-18, 1 image of 224 × 224": (ResNet18, (1, 3, 224, 224)),
}


def seconds(device, work):
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def grown(build, x):
    structure = gm.Structure(build().to(x.device).eval(), x[:1].repeat(2, *[1] * (x.dim() - 1)))
    structure.begin_task("before")
    structure.remember_norms()
    structure.begin_task("now")
    groups = [g for g in structure.groups.values() if g.can_grow and g.can_shrink]
    structure.apply(gm.Plan(grow={g.name: max(1, g.width // 8) for g in groups}))
    return structure


def measure(build, shape, device, repeats):
    """Measure a call in milliseconds; then ratios: another call in a view, the first, training."""
    x = torch.rand(shape, device=device)
    structure = grown(build, x)
    model = structure.model

    def call():
        with torch.no_grad():
            model(x)

    def train():
        model(x).square().sum().backward()

    def enter_and_call():
        with structure.view("before"):
            call()

    rows = []
    call(), train(), enter_and_call()
    for _ in range(repeats):
        call()  # as warm as the call in the view
        plain = seconds(device, call)
        first = seconds(device, enter_and_call)
        learning = seconds(device, train)
        with structure.view("before"):
            call()
            again = seconds(device, call)
            viewed = seconds(device, train)
        rows.append((1e3 * plain, again / plain, first / plain, viewed / learning))
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| network | forward, ms | in a view | entering, and one call | forward and backward |")
    print("|---|---|---|---|---|")
    for name, (build, shape) in CASES.items():
        repeats = options.repeats if "ResNet" not in name else max(3, options.repeats // 3)
        plain, again, first, learning = measure(build, shape, options.device, repeats)
        print(f"| {name} | {plain:.2f} | {again:.2f}× | {first:.2f}× | {learning:.2f}× |")


if __name__ == "__main__":
    main()
