"""Continuous continual backpropagation: all units are reset a little, the least useful most."""

import torch
from torch import Tensor

from growmas.data import Task
from growmas.plasticity.recorder import Recorder, readers_of
from growmas.plasticity.utility import measured
from growmas.structure import Structure
from growmas.structure.surgery.renewal import Entries
from growmas.training.methods.method import Method


class ContinuousCBP(Method):
    """Reset units by a share at every step, in place of a few units altogether.

    "Learning continually at peak performance with continuous continual backpropagation" (ICLR 2026
    submission 24844): partial resets, scaled by utility, take the place of full ones. Here

        r_i = rate · max(0, 1 − u_i / ū),  w_in ← (1 − r_i) w_in + r_i w₀,  w_out ← (1 − r_i) w_out

    with the contribution utility u of continual backprop, its mean ū over the layer, and w₀ drawn
    anew from the layer's default.

    Differs from the paper: its scale of the utility was not at hand; this is the plainest that its
    abstract allows. Constants of norms are left alone.

    Args:
        structure: The network, whose units stay.
        rate: Share by which a unit without any utility is reset at a step.
        decay: Of the utility.
        seed: Of the fresh weights.
    """

    SAVED = ("generator", "utility", "measurements")

    def __init__(
        self, structure: Structure, *, rate: float = 1e-3, decay: float = 0.99, seed: int = 0
    ) -> None:
        super().__init__(structure)
        self._rate, self._decay = rate, decay
        self._recorder = Recorder()
        readers = {name: readers_of(structure, g) for name, g in structure.groups.items()}
        self._readers = {name: several for name, several in readers.items() if several}
        self.generator = torch.Generator().manual_seed(seed)
        self.utility: dict[str, Tensor] = {}
        self.measurements = 0
        self._recorder.arm(self._readers)

    @torch.no_grad()
    def step_done(self, task: Task) -> None:
        """Reset the units by their shares, and look at the next pass."""
        self.measurements += 1
        for name, activations in self._recorder.take(self._readers).items():
            group, entries = self.structure.groups[name], self.structure.entries(name)
            now = measured("contribution", group, activations, entries, around_mean=False)
            found = torch.from_numpy(now)
            before = self.utility.get(name, torch.zeros_like(found))
            self.utility[name] = self._decay * before + (1 - self._decay) * found
            mean = self.utility[name].mean().clamp(min=1e-300)
            share = self._rate * (1 - self.utility[name] / mean).clamp(min=0)
            for each in entries:
                self._reset(each, share)
        self._recorder.arm(self._readers)

    def _reset(self, entries: Entries, share: Tensor) -> None:
        """Move the entries of units toward a fresh start, by the share of each."""
        tensor = entries.tensor
        if entries.role == "norm" or not tensor.requires_grad:
            return
        along = torch.zeros(tensor.shape[entries.dim], dtype=torch.float64)
        along[entries.positions.flatten()] = share.repeat_interleave(entries.positions.shape[1])
        shape = [-1 if dim == entries.dim else 1 for dim in range(tensor.dim())]
        weight = along.to(tensor).view(shape)
        if entries.role == "in":
            tensor.mul_(1 - weight)
            return
        drawn = torch.rand(tensor.shape, generator=self.generator).mul_(2).sub_(1)
        tensor.lerp_(drawn.to(tensor) / max(1, entries.fan_in) ** 0.5, weight.expand_as(tensor))
