"""Slow and obvious reference implementations; they share no code with growmas."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Objective = Callable[[Any], Tensor]


def tensors_of(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if isinstance(output, Mapping) else output
    return [tensor for value in values for tensor in tensors_of(value)]


def coordinates(output: Any) -> Tensor:
    """Return every coordinate of the output of one sample, [C]."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors_of(output)])


def squared_norm(output: Any) -> Tensor:
    return sum((tensor**2).sum() for tensor in tensors_of(output)).reshape(1)


def gradients(scalar: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not scalar.requires_grad:
        return {name: torch.zeros_like(p) for name, p in parameters.items()}
    found = torch.autograd.grad(
        scalar, list(parameters.values()), retain_graph=True, allow_unused=True
    )
    return {
        name: torch.zeros_like(p) if gradient is None else gradient
        for (name, p), gradient in zip(parameters.items(), found, strict=True)
    }


def importance(
    model: nn.Module,
    samples: Iterable[Any],
    function: str | Objective = "squared_norm",
    forward: Callable[[nn.Module, Any], Any] = lambda model, sample: model(sample),
) -> dict[str, Tensor]:
    """Compute Eq. 2 of MAS in a loop; `samples` are batches of one, `function`: [1, ...] -> [1]."""
    scalars = {"squared_norm": squared_norm, "vector": coordinates}.get(function, function)
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    count = 0
    model.eval()
    for sample in samples:
        values = scalars(forward(model, sample))
        for value in values:
            for name, gradient in gradients(value, parameters).items():
                total[name] += gradient.abs() / len(values)
        count += 1
    return {name: t.detach() / count for name, t in total.items()}


def fisher(
    model: nn.Module,
    samples: Iterable[tuple[Any, Tensor]],
    target: str = "label",
    forward: Callable[[nn.Module, Any], Tensor] = lambda model, sample: model(sample),
) -> dict[str, Tensor]:
    """Diagonal Fisher information of a classifier by a loop over (batch of one, label [1])."""
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    count = 0
    model.eval()
    for sample, label in samples:
        log_p = forward(model, sample)[0].log_softmax(-1)
        classes = range(len(log_p)) if target == "model" else [int(label)]
        for c in classes:
            weight = float(log_p[c].detach().exp()) if target == "model" else 1.0
            for name, gradient in gradients(log_p[c], parameters).items():
                total[name] += weight * gradient**2
        count += 1
    return {name: t.detach() / count for name, t in total.items()}


def batch_importance(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Compute the common approximation: |gradient of the batch mean|, weighted by batch size."""
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    count = 0
    model.eval()
    for batch in batches:
        mean = sum(squared_norm(model(sample)) for sample in batch.split(1)) / len(batch)
        for name, gradient in gradients(mean[0], parameters).items():
            total[name] += len(batch) * gradient.abs()
        count += len(batch)
    return {name: t.detach() / count for name, t in total.items()}


def penalty(
    model: nn.Module, strength: float, omega: Mapping[str, Tensor], anchor: Mapping[str, Tensor]
) -> float:
    """Compute Eq. 3 of MAS, one weight after the other."""
    total = 0.0
    for name, parameter in model.named_parameters():
        if name not in omega:
            continue
        flat = (omega[name].flatten(), parameter.flatten(), anchor[name].flatten())
        for weight, now, then in zip(*(t.tolist() for t in flat), strict=True):
            total += weight * (now - then) ** 2
    return strength * total


def cut_linear(layer: nn.Linear, rows: Sequence[int], columns: Sequence[int]) -> nn.Linear:
    new = nn.Linear(len(columns), len(rows), bias=layer.bias is not None).to(layer.weight.dtype)
    with torch.no_grad():
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                new.weight[i, j] = layer.weight[row, column]
            if layer.bias is not None:
                new.bias[i] = layer.bias[row]
    return new


def cut_conv(layer: nn.Conv2d, rows: Sequence[int], columns: Sequence[int]) -> nn.Conv2d:
    new = nn.Conv2d(
        len(columns), len(rows), layer.kernel_size, padding=layer.padding, stride=layer.stride
    ).to(layer.weight.dtype)
    with torch.no_grad():
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                new.weight[i, j] = layer.weight[row, column]
            new.bias[i] = layer.bias[row]
    return new


def cut_norm(layer: nn.Module, kept: Sequence[int]) -> nn.Module:
    new = type(layer)(len(kept)).to(layer.weight.dtype)
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            for i, row in enumerate(kept):
                getattr(new, name)[i] = getattr(layer, name)[row]
        new.num_batches_tracked.copy_(layer.num_batches_tracked)
    return new


def cut_sequential(
    net: nn.Sequential, kept: Mapping[str, Sequence[int]], pixels: int = 1
) -> nn.Sequential:
    """Return a copy of a chain of layers with only some outputs: layer name -> `kept` indices.

    `pixels` is the number of entries of one channel after a Flatten.
    """
    layers: list[nn.Module] = []
    columns: list[int] | None = None
    for name, layer in net.named_children():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            inside = layer.weight.shape[1]
            rows = list(kept.get(name, range(layer.weight.shape[0])))
            cut = cut_linear if isinstance(layer, nn.Linear) else cut_conv
            layers.append(cut(layer, rows, range(inside) if columns is None else columns))
            columns = rows
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layers.append(cut_norm(layer, columns or []))
        elif isinstance(layer, nn.Flatten):
            columns = [c * pixels + p for c in columns or [] for p in range(pixels)]
            layers.append(nn.Flatten())
        else:
            layers.append(layer)
    return nn.Sequential(*layers).train(net.training)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    masks: Mapping[str, Tensor] | None = None,
) -> None:
    """Take plain steps on a squared loss; `masks` are multiplied with the gradients."""
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = (coordinates(model(inputs)) - coordinates(targets)).square().mean()
        loss.backward()
        for name, mask in (masks or {}).items():
            model.get_parameter(name).grad.mul_(mask)
        optimizer.step()
