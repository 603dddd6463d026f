"""MAS importance for the pruners of Torch-Pruning."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from growmas.errors import PenaltyError
from growmas.structure.inspection.saliency import (
    CRITERIA,
    NORMALIZE,
    WHICH,
    Criterion,
    Scale,
    Which,
    check_shape,
    check_word,
    normalized,
    weight_saliency,
)
from growmas.structure.layers.axes import Side, TensorAxis, axes_of

Omega = Mapping[str, Tensor]


class MASPruningImportance(tp.importance.Importance):  # type: ignore[misc]
    """An importance for `torch_pruning` pruners: Σ Ω θ² of the weights that read a unit.

    Torch-Pruning changes the shapes of parameters, so importance measured before a step does not
    fit after it. Give a function to have Ω measured again whenever shapes have changed, as pruning
    in several steps requires. With a mapping, a second step is refused.

    Example:
        >>> import torch, torch_pruning, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> x = torch.rand(16, 4)
        >>> pruner = torch_pruning.pruner.BasePruner(
        ...     net, x, growmas.MASPruningImportance(lambda: growmas.mas_importance(net, [x])),
        ...     pruning_ratio=0.5, ignored_layers=[net[2]])
        >>> pruner.step()
        >>> net[0].out_features
        4

    Args:
        omega: Parameter name -> Ω, of the model the pruner was given, or a function without
            arguments that measures it.
        criterion: "penalty" and the other criteria of `Structure.saliency`.
        which: "out", "in" or "both".
        normalize: None, "mean", "max" or "rank", within a group; matters for global pruning.

    Raises:
        PenaltyError: An unknown word; when called, importance whose shapes do not fit the
            parameters.
    """

    def __init__(
        self,
        omega: Omega | Callable[[], Omega],
        *,
        criterion: Criterion = "penalty",
        which: Which = "out",
        normalize: Scale | None = None,
    ) -> None:
        check_word("criterion", criterion, CRITERIA)
        check_word("which", which, tuple(WHICH))
        check_word("normalize", normalize, NORMALIZE)
        self._measure = omega if callable(omega) else None
        self._omega: Omega = {} if callable(omega) else omega
        self._criterion, self._roles, self._normalize = criterion, WHICH[which], normalize

    @torch.no_grad()
    def __call__(self, group: Any) -> Tensor:
        """Return the saliency of every channel of a group, in the order of its root layer."""
        graph = group._DG
        parameters = dict(graph.model.named_parameters())
        omega = self._fitting(parameters)
        names = {id(parameter): name for name, parameter in parameters.items()}
        total = torch.zeros(len(group[0].idxs))
        counted = False
        for item in group.items:
            module = item.dep.target.module
            axes = axes_of(module) if isinstance(module, nn.Module) else None
            if axes is None or None in item.root_idxs:
                continue
            side: Side = "out" if graph.is_out_channel_pruning_fn(item.dep.handler) else "in"
            roots, channels = torch.tensor(item.root_idxs), torch.tensor(item.idxs)
            for axis in axes.side(side):
                weight = getattr(module, axis.tensor, None)
                name = names.get(id(weight), "")
                if weight is not None and axis.role in self._roles and name in omega:
                    where = _positions(axis, channels, axes.channels(module, side))
                    found = weight_saliency(weight, omega[name], self._criterion, axis.dim, where)
                    total.index_add_(0, roots, found.to(total))
                    counted = True
        if not counted:
            layers = ", ".join(str(item.dep.target.name) for item in group.items)
            raise PenaltyError(
                f"omega has no entry for the weights of {layers}: measure it on this model"
            )
        return normalized(total, self._normalize)

    def _fitting(self, parameters: Mapping[str, Tensor]) -> Omega:
        """Return Ω with the shapes that the parameters have now."""
        fits = self._omega and all(
            omega.shape == parameters[name].shape
            for name, omega in self._omega.items()
            if name in parameters
        )
        if self._measure is not None and not fits:
            self._omega = self._measure()
        for name, omega in self._omega.items():
            if name in parameters:
                check_shape(name, omega, parameters[name])
        return self._omega


def _positions(axis: TensorAxis, channels: Tensor, length: int) -> Tensor:
    """Return the positions of single channels [n] on an axis, [n, m]."""
    if axis.shared > 1:
        return channels[:, None] % (length // axis.shared)
    return axis.positions(channels[:, None], length)
