import numpy as np
import torch

from growmas.contexts.distances import LEAST, RATIO, DistanceHistogram


def test_shares_equal_those_of_the_distances_themselves() -> None:
    generator = torch.Generator().manual_seed(0)
    known = torch.rand(500, generator=generator).double().exp()
    asked = torch.linspace(0.9, 3.0, 50).double()
    held = DistanceHistogram()
    held.add(known[:200])
    held.add(known[200:])
    assert held.total == 500
    wanted = np.searchsorted(np.sort(known.numpy()), asked.numpy() / RATIO) / 501
    upper = np.searchsorted(np.sort(known.numpy()), asked.numpy()) / 501
    found = held.nearer(asked).numpy()
    assert ((wanted <= found) & (found <= upper)).all()


def test_distances_beyond_the_cells() -> None:
    held = DistanceHistogram()
    held.add(torch.tensor([0.0, LEAST / 2, 1.0, 1e300], dtype=torch.float64))
    found = held.nearer(torch.tensor([0.0, 2.0, 1e300, torch.inf], dtype=torch.float64))
    assert (found * 5).tolist() == [0, 3, 3, 3]
    assert found.dtype == torch.float64
