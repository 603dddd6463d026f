"""Methods that growmas does not have: the context alone, warm copies, low-rank adapters."""

import torch
import torch.nn.functional as F
from torch.func import functional_call

from growmas import Method, RandomFilters, RidgeContext
from growmas.training.methods.classifier import Classifier


class Ridge(Classifier):
    """Predict by a `RidgeContext`; the network is not trained and does not count."""

    def __init__(self, structure, *, stream, seed=0, filters=0, strength=None):
        """Put the parts together.

        Args:
            structure: The network.
            stream: Its heads tell how many labels there are.
            seed: Of the filters.
            filters: Number of analytic filters over a 4 × 4 grid; 0 for the inputs.
            strength: λ; None for generalised cross-validation.
        """
        extract = None
        if filters:
            extract = RandomFilters(filters, pool=7, whiten="analytic", seed=seed)
        super().__init__(structure, RidgeContext(extract=extract, strength=strength), stream)


class WarmCopies(Method):
    """Keep a copy of the network for each task, which starts from that of the task before.

    The strongest rival of a network that grows: fine-tuning, and a snapshot of
    trunk and head at the end of each task. It forgets nothing.
    """

    def __init__(self, structure):
        """Begin without copies."""
        super().__init__(structure)
        self.copies = {}

    @property
    def numbers_kept(self):
        """Numbers of the copies, each with its own head."""
        return sum(tensor.numel() for tensor in self.copies.values())

    @property
    def parameters(self):
        """The same: the network that learns is the last copy."""
        return self.numbers_kept

    def end_task(self, task):
        """Keep trunk and head of the task."""
        for name, tensor in self.structure.model.state_dict().items():
            if own(name, task.head):
                self.copies[f"{task.name}/{name}"] = tensor.clone()

    def predict(self, inputs, task):
        """Answer by the copy of the task."""
        held = {
            name.removeprefix(f"{task.name}/"): tensor
            for name, tensor in self.copies.items()
            if name.startswith(f"{task.name}/")
        }
        return functional_call(self.structure.model, held, (inputs, task.head)).argmax(1)


class LowRank(Method):
    """Low-rank adapters for each task on a base that the first task trains (Hu et al., 2021).

    From the second task on the base is frozen, and each weight W of the trunk is W + B A, where A
    [rank, inputs] is random and B [outputs, rank] begins at 0; biases and the head are the task's.
    """

    def __init__(self, structure, rate, rank=1, seed=0):
        """Put the parts together.

        Args:
            structure: The network.
            rate: Learning rate of the adapters, that of the base.
            rank: Of the adapters.
            seed: Of A.
        """
        super().__init__(structure)
        self.rate, self.rank, self.adapters = rate, rank, {}
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def numbers_kept(self):
        """Numbers of the base with all heads, and of the adapters."""
        adapters = sum(t.numel() for name, t in self.adapters.items())
        return self.structure.parameters + adapters

    @property
    def parameters(self):
        """The same."""
        return self.numbers_kept

    def begin_task(self, task):
        """Freeze the base and make the adapters, from the second task on."""
        super().begin_task(task)
        if task.index == 0:
            return
        mine = {}
        for name, weight in self.structure.model.named_parameters():
            head = name.startswith("heads.")
            weight.requires_grad_(head and own(name, task.head))
            if head:
                continue
            if weight.dim() > 1:
                out, read = weight.shape[0], weight[0].numel()
                a = torch.randn(self.rank, read, generator=self.generator) / read**0.5
                mine[f"{name}/A"], mine[f"{name}/B"] = a, torch.zeros(out, self.rank)
            else:
                mine[f"{name}/bias"] = weight.detach().clone()
        held = {f"{task.name}/{name}": t.requires_grad_() for name, t in mine.items()}
        self.adapters |= held
        self.steps = torch.optim.Adam(held.values(), lr=self.rate)

    def weights(self, task):
        """Return the weights of the trunk with the adapters of a task."""
        found = {}
        for name, weight in self.structure.model.named_parameters():
            key = f"{task.name}/{name}"
            if f"{key}/A" in self.adapters:
                change = self.adapters[f"{key}/B"] @ self.adapters[f"{key}/A"]
                found[name] = weight + change.reshape(weight.shape)
            elif f"{key}/bias" in self.adapters:
                found[name] = self.adapters[f"{key}/bias"]
        return found

    def loss(self, inputs, labels, task):
        """Return the loss of the base with the adapters."""
        logits = functional_call(self.structure.model, self.weights(task), (inputs, task.head))
        return F.cross_entropy(logits, labels)

    def step_done(self, task):
        """Take a step of the adapters, whose gradients the loss has left."""
        if task.index:
            self.steps.step()
            self.steps.zero_grad()

    def end_task(self, task):
        """Drop the optimizer of the adapters."""
        self.steps = None

    def predict(self, inputs, task):
        """Answer by the base with the adapters of the task."""
        return functional_call(
            self.structure.model, self.weights(task), (inputs, task.head)
        ).argmax(1)


def own(name, head):
    """Return True for a parameter of the trunk or of a head."""
    return not name.startswith("heads.") or name.startswith(f"heads.{head}.")
