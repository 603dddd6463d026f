"""The check of a structure: what passes must pass by itself."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from growmas import Plan, Structure
from growmas.structure.inspection.check import separating


class Twins(nn.Module):
    """Branches of equal width, as code demands that compares them; a single layer beside them."""

    def __init__(self, branches: int) -> None:
        super().__init__()
        self.into = nn.ModuleList(nn.Linear(3, 6) for _ in range(branches))
        self.out = nn.ModuleList(nn.Linear(6, 2) for _ in range(branches))
        self.free, self.read = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = [layer(x).relu() for layer in self.into]
        if len({h.shape[1] for h in hidden}) > 1:
            raise ValueError("branches of different widths")
        y = sum(layer(h) for layer, h in zip(self.out, hidden, strict=True))
        return y + self.read(self.free(x).relu())


@pytest.mark.parametrize("branches", [2, 3, 5])
def test_groups_that_change_only_together_do_not_pass(branches: int) -> None:
    structure = Structure(Twins(branches), torch.rand(4, 3))
    together = {f"into.{number}": 2 for number in range(branches)}
    structure.apply(Plan(grow=together))
    said = structure.check()
    assert set(said) == set(together)
    assert list(structure.groups) == ["free"]
    assert all("branches of different widths" in structure.fixed[name] for name in together)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 7, 20, 71])
def test_each_of_two_is_tried_without_the_other(number: int) -> None:
    parts = separating([str(each) for each in range(number)])
    held = {
        str(each): {i for i, part in enumerate(parts) if str(each) in part}
        for each in range(number)
    }
    assert all(held.values())
    assert not any(held[a] <= held[b] for a, b in itertools.permutations(held, 2))
    assert len(parts) <= 9
