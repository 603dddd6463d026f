"""The run of `naive.yaml` with Avalanche: its Naive strategy on a multi-head network.

    python peer.py [FOLDER …]

The folders are looked in for packages last. Avalanche imports wandb and tensorboard, which are not
used here: empty modules stand in for them.
"""

import sys
import types

import torch
import torch.nn.functional as F
from fashion import BATCH, EPOCHS, RATE, TASKS, tasks
from torch import nn

sys.path += sys.argv[1:]
for _name in ("wandb", "torch.utils.tensorboard"):
    sys.modules.setdefault(_name, types.ModuleType(_name)).SummaryWriter = object
_operators = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):  # which builds of torchvision for other builds of torch look for
    _operators.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from avalanche.benchmarks import (  # noqa: E402
    benchmark_from_datasets,
    with_classes_timeline,
    with_task_labels,
)
from avalanche.benchmarks.utils import as_classification_dataset  # noqa: E402
from avalanche.benchmarks.utils.classification_dataset import (  # noqa: E402
    _make_taskaware_tensor_classification_dataset as tensor_dataset,
)
from avalanche.evaluation.metrics import accuracy_metrics  # noqa: E402
from avalanche.models import MultiHeadClassifier, MultiTaskModule  # noqa: E402
from avalanche.training.plugins import EvaluationPlugin  # noqa: E402
from avalanche.training.supervised import Naive  # noqa: E402


class Net(MultiTaskModule):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
        self.heads = MultiHeadClassifier(256, initial_out_features=2, masking=False)

    def forward_single_task(self, x, task_label):
        return self.heads.forward_single_task(self.trunk(x), task_label)


def stream(part):
    return [
        as_classification_dataset(tensor_dataset(x, y, task_labels=[task] * len(y)))
        for task, (x, y) in enumerate(tasks(part))
    ]


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plain = benchmark_from_datasets(train=stream("train"), test=stream("t10k"))
    benchmark = with_task_labels(with_classes_timeline(plain))
    net = Net()
    strategy = Naive(
        model=net,
        optimizer=torch.optim.Adam(net.parameters(), lr=RATE, fused=True),
        criterion=F.cross_entropy,
        train_mb_size=BATCH,
        train_epochs=EPOCHS,
        eval_mb_size=1024,
        evaluator=EvaluationPlugin(accuracy_metrics(stream=True, experience=True), loggers=[]),
    )
    results = {}
    for task, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        results = strategy.eval(benchmark.test_stream[: task + 1])
    row = [value for name, value in results.items() if name.startswith("Top1_Acc_Exp")]
    sys.stdout.write(f"ACC {sum(row) / TASKS:.3f}\n")


if __name__ == "__main__":
    main()
