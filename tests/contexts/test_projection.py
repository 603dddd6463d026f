import torch

from growmas.contexts.projection import Projection


def test_distances_are_kept_nearly() -> None:
    projection = Projection(100, 0, None)
    points = torch.randn(20, 784, generator=torch.Generator().manual_seed(1))
    features = projection.features(points)
    projection.fix(784)
    rows = projection.rows(features)
    assert rows.shape == (20, 100)
    ratio = torch.pdist(rows) / torch.pdist(points.double())
    assert 0.6 < float(ratio.min()) < float(ratio.max()) < 1.4
    assert 0.95 < float(ratio.mean()) < 1.05
