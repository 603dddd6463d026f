"""Small streams, structures and learners on which methods are tried."""

import torch
from torch import nn

from growmas.config import TrainingConfig
from growmas.data import Split, Stream, Task
from growmas.models import MLP
from growmas.structure import Structure
from growmas.training.learner import TaskAwareLearner

# torch 2.6 rounds two passes of a network over the same inputs differently now and then.
ROUNDING = 1e-6 if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7) else 0.0


def stream_of(scenario, tasks=3, *, samples=40, features=6, classes=2, shape=None, seed=0):
    """Tasks of well separated Gaussian classes; inputs are noise about the mean of their class."""
    generator = torch.Generator().manual_seed(seed)
    shape = (features,) if shape is None else shape
    made = []
    for index in range(tasks):
        means = 2 * torch.randn(classes, *shape, generator=generator)
        labels = torch.arange(classes).repeat(samples // classes)
        noise = 0.5 * torch.randn(len(labels), *shape, generator=generator)
        inputs = means[labels] + noise
        offset = classes * index if scenario == "class" else 0
        split = Split(inputs, labels + offset)
        own = tuple(range(classes * index, classes * (index + 1)))
        head = index if scenario == "task" else 0
        made.append(Task(f"task {index}", index, split, split, own, head))
    sizes = {"task": (classes,) * tasks, "domain": (classes,), "class": (classes * tasks,)}
    return Stream("small", scenario, tuple(made), sizes[scenario], shape)


def structure_of(stream, hidden=(8,), model=None):
    """The structure of a perceptron, or of a given network, for a stream."""
    torch.manual_seed(0)
    model = model or MLP(stream.input_shape, list(hidden), stream.head_sizes)
    return Structure(model, stream.tasks[0].train.inputs[:4])


def learner_of(method, *, epochs=3, batch_size=8, optimizer="adam", rate=0.01, known=True):
    """A learner with a fresh optimizer; weight decay and momentum are there to do harm."""
    parameters = [p for p in method.structure.model.parameters() if p.requires_grad]
    if optimizer == "sgd":
        made = torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=1e-3)
    else:
        made = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-2)
    training = TrainingConfig(epochs=epochs, batch_size=batch_size, learning_rate=rate)
    generator = torch.Generator().manual_seed(0)
    return TaskAwareLearner(method, made, training, generator=generator, task_known=known)


def teach(learner, tasks):
    for task in tasks:
        for _ in learner.learn(task):
            pass


class Classes(nn.Module):
    """A network with one output for each class and heads by name, as methods expect."""

    def __init__(self, body: nn.Module, width: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in sizes)

    def forward(self, inputs: torch.Tensor, head: int | None = None):
        hidden = self.body(inputs)
        if head is not None:
            return self.heads[head](hidden)
        outputs = tuple(module(hidden) for module in self.heads)
        return outputs if len(outputs) > 1 else outputs[0]


def answers(method, stream):
    """The logits or labels that a method predicts for the test samples of each task."""
    method.structure.model.eval()
    with torch.no_grad():
        return [method.predict(task.test.inputs, task) for task in stream.tasks]
