"""Ridge, linear discriminants and cross-validation from all samples at once, slow and obvious."""

import torch
from torch import Tensor


def indicators(owners: Tensor) -> Tensor:
    """One column for each component: 1 where a sample is of it, [N, M]."""
    return (owners[:, None] == torch.arange(int(owners.max()) + 1)).double()


def absolute(features: Tensor, strength: float) -> float:
    """What a relative strength adds to the eigenvalues of the scatter."""
    centred = features - features.mean(0)
    return strength * float(centred.square().sum()) / features.shape[1]


def ridge_logits(features: Tensor, owners: Tensor, inputs: Tensor, strength: float) -> Tensor:
    """Least squares with the penalty as extra rows, by a dense solver; the intercept is free."""
    size = features.shape[1]
    penalty = absolute(features, strength) ** 0.5 * torch.eye(size, dtype=torch.float64)
    rows = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], 1)
    extra = torch.cat([penalty, torch.zeros(size, 1, dtype=torch.float64)], 1)
    targets = indicators(owners)
    nothing = torch.zeros(size, targets.shape[1], dtype=torch.float64)
    solved = torch.linalg.lstsq(
        torch.cat([rows, extra]), torch.cat([targets, nothing]), driver="gelsd"
    ).solution
    return torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], 1) @ solved


def smoother(features: Tensor, strength: float) -> Tensor:
    """The matrix H that maps targets to fitted values, intercept included, [N, N]."""
    centred = features - features.mean(0)
    size = features.shape[1]
    inner = centred.T @ centred + absolute(features, strength) * torch.eye(
        size, dtype=torch.float64
    )
    return 1 / len(features) + centred @ torch.linalg.inv(inner) @ centred.T


def left_out_error(features: Tensor, owners: Tensor, strength: float) -> float:
    """Mean squared error of samples left out, by refitting without each of them in turn.

    The strength is held at its absolute value of all samples.
    """
    targets, added = indicators(owners), absolute(features, strength)
    errors = []
    for sample in range(len(features)):
        rest = torch.arange(len(features)) != sample
        mean = features[rest].mean(0)
        centred = features[rest] - mean
        inner = centred.T @ centred + added * torch.eye(features.shape[1], dtype=torch.float64)
        solved = torch.linalg.solve(inner, centred.T @ targets[rest])
        found = (features[sample] - mean) @ solved + targets[rest].mean(0)
        errors.append(float((targets[sample] - found).square().sum()))
    return sum(errors) / len(errors)


def generalised_error(features: Tensor, owners: Tensor, strength: float) -> float:
    """The left-out error with every leverage replaced by the mean of all."""
    hat = smoother(features, strength)
    residuals = indicators(owners) - hat @ indicators(owners)
    left = 1 - hat.diagonal().mean()
    return float(residuals.square().sum()) / len(features) / float(left) ** 2


def discriminant_logits(
    features: Tensor, owners: Tensor, inputs: Tensor, shrinkage: float
) -> Tensor:
    """Log-density of each component's Gaussian plus the log of its share, up to a constant."""
    number, size = int(owners.max()) + 1, features.shape[1]
    means = torch.stack([features[owners == c].mean(0) for c in range(number)])
    gaps = features - means[owners]
    within = gaps.T @ gaps / len(features)
    sphere = within.trace() / size * torch.eye(size, dtype=torch.float64)
    precision = torch.linalg.inv((1 - shrinkage) * within + shrinkage * sphere)
    logits = []
    for component in range(number):
        gap = inputs - means[component]
        share = (owners == component).double().mean().log()
        logits.append(share - 0.5 * ((gap @ precision) * gap).sum(1))
    return torch.stack(logits, 1)
