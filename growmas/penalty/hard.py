"""Hard protection: the entries most important to earlier tasks are frozen."""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from growmas.errors import PenaltyError
from growmas.importance.measurement import check_is_module
from growmas.penalty.guards import Guards
from growmas.penalty.settings import check_used, matches
from growmas.penalty.terms import check_fit

if TYPE_CHECKING:
    from growmas.structure import Edit, Structure

Per = Literal["tensor", "network"]
"""Over which entries the frozen fraction is taken."""


class HardProtection:
    """Freeze the most important fraction of old parameters exactly; the rest stays plastic.

    An entry is old once its importance is above zero, so fresh units are free. After each task
    `freeze` holds the most important old entries until `fraction` of all old ones are frozen. A
    frozen entry stays frozen until its unit is removed. Entries that are not frozen may be under
    the penalty of a `MAS`; the penalty of frozen ones has no effect.

    After every step of a guarded optimizer the frozen entries are set back to exactly the bits
    they had, regardless of momentum, moments and weight decay; other loops call `restore_`.
    Gradients are left as they are. It costs one more copy of the parameters.

    Pass it among the followers of every edit. A change that an edit itself makes to a frozen
    entry (such as by reconstruction) is intended: the entry is then held at its new value.

    Example:
        >>> import torch, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> x, optimizer = torch.rand(32, 4), torch.optim.Adam(net.parameters())
        >>> protect = growmas.HardProtection(net, fraction=0.5)
        >>> _ = protect.guard(optimizer)
        >>> protect.freeze(growmas.mas_importance(net, [x]))
        >>> held = protect.frozen["0.weight"]
        >>> before = net[0].weight[held].clone()
        >>> net(x).square().sum().backward()
        >>> optimizer.step()
        >>> bool(torch.equal(net[0].weight[held], before))
        True

    Attributes:
        model: The network.
        fraction: Share of the old entries that is frozen.
        per: "tensor" or "network", over which the share is taken.
        exclude: Patterns of the parameters that are never frozen.
        frozen: Parameter name -> bool mask of the frozen entries; empty before the first `freeze`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        fraction: float,
        per: Per = "tensor",
        exclude: Collection[str] = (),
    ) -> None:
        """Prepare for the first `freeze`.

        Args:
            model: The network.
            fraction: Share of the old entries to freeze, above 0 and at most 1.
            per: "tensor": that share of the old entries of each parameter; "network": of all
                entries together, wherever the most important ones are.
            exclude: Names, or shell patterns such as "heads.*", of parameters never frozen.

        Raises:
            ImportanceError: `model` is not a `torch.nn.Module`.
            PenaltyError: A fraction out of range, an unknown word, or a pattern without a match.
        """
        check_is_module(model)
        self.model: nn.Module = getattr(model, "_orig_mod", model)
        _check_settings(fraction, per)
        check_used("exclude", exclude, [name for name, _ in self.model.named_parameters()])
        self.fraction = fraction
        self.per = per
        self.exclude = tuple(exclude)
        self.frozen: dict[str, Tensor] = {}
        self._old: dict[str, Tensor] = {}
        self._values: dict[str, Tensor] = {}
        self._guards = Guards()

    def __repr__(self) -> str:
        frozen = sum(int(mask.sum()) for mask in self.frozen.values())
        return (
            f"{type(self).__name__}({type(self.model).__name__}, fraction={self.fraction:g}, "
            f"per={self.per!r}; {frozen:,} entries frozen)"
        )

    @property
    def share(self) -> float:
        """Share of frozen entries among all parameters of the network."""
        total = sum(p.numel() for p in self.model.parameters())
        return sum(int(mask.sum()) for mask in self.frozen.values()) / max(1, total)

    def guard(self, optimizer: Optimizer) -> Callable[[], None]:
        """Restore frozen entries after every step of `optimizer`.

        Returns:
            A function that ends the guard.

        Raises:
            PenaltyError: `optimizer` is not a torch optimizer.
        """
        return self._guards.add(
            optimizer,
            after=self.restore_,
            remedy="call restore_() after each step of anything else",
        )

    def freeze(self, omega: Mapping[str, Tensor]) -> None:
        """Freeze more of the old entries at their present values, the most important first.

        Of entries with equal importance, which ones are frozen is up to `torch.topk`.

        Args:
            omega: Parameter name -> Ω ≥ 0, such as `mas.omega` after `consolidate`.

        Raises:
            PenaltyError: The importance has other names or shapes than the parameters, or is not
                finite.
        """
        parameters = self._held_parameters()
        check_fit(omega, parameters, "the importances")
        omega = {
            name: importance.detach().to(parameters[name].device)
            for name, importance in omega.items()
            if not matches(name, self.exclude)
        }
        bad = [name for name, importance in omega.items() if not importance.isfinite().all()]
        if bad:
            raise PenaltyError(f"importance of {', '.join(bad)} is not finite: measure it again")
        self.restore_()
        none = {n: torch.zeros_like(o, dtype=torch.bool) for n, o in omega.items()}
        frozen = {**none, **self.frozen}
        old = {name: (importance > 0) | frozen[name] for name, importance in omega.items()}
        parts = [[name] for name in omega] if self.per == "tensor" else [list(omega)]
        for names in parts if omega else []:
            frozen |= _most_important(omega, old, frozen, names, self.fraction)
        self._hold(frozen, {**self._old, **old}, parameters)

    def thaw(self) -> None:
        """Release all entries, until `freeze` is called again."""
        self.frozen, self._old, self._values = {}, {}, {}

    def hold(self) -> None:
        """Hold the frozen entries at the values that the model has now, set there on purpose."""
        self._hold(self.frozen, self._old, dict(self.model.named_parameters()))

    @torch.no_grad()
    def restore_(self) -> None:
        """Set the frozen entries of the model back to the values held, exactly.

        Raises:
            PenaltyError: A parameter has changed its shape or its name since the last `freeze`.
        """
        parameters = self._held_parameters()
        for name, mask in self.frozen.items():
            parameter = parameters[name]
            parameter.copy_(torch.where(mask, self._values[name], parameter))

    def frozen_shares(self, structure: "Structure") -> dict[str, Tensor]:
        """Return the frozen share of the weights that produce each unit: group name -> [U], 0 to 1.

        This is the share of frozen entries among the old ones of the unit's incoming weights, its
        bias and the constants of its norms, as of the last `freeze`; 0 if none is old. With 1, the
        unit responds to old inputs as before, to first order.

        Args:
            structure: The structure of this model.

        Raises:
            PenaltyError: `structure` is of another model.
        """
        if structure.model is not self.model:
            raise PenaltyError(
                "the structure is of another network than this protection: make both with the "
                "same model"
            )
        counts = []
        for masks in (self.frozen, self._old):
            ones = {
                name: masks[name].to(p.dtype) if name in masks else torch.zeros_like(p)
                for name, p in self.model.named_parameters()
            }
            counts.append(structure.saliency(ones, criterion="sum", which="in"))
        return {name: frozen / counts[1][name].clamp(min=1) for name, frozen in counts[0].items()}

    def frozen_units(
        self, structure: "Structure", *, at_least: float = 1.0
    ) -> dict[str, tuple[int, ...]]:
        """Return the units with at least that frozen share: group name -> ids.

        Args:
            structure: The structure of this model.
            at_least: Smallest share, see `frozen_shares`; units of share 0 are never among them.
        """
        return {
            name: tuple(
                unit
                for unit, share in zip(structure.groups[name].unit_ids, shares, strict=True)
                if share >= at_least and share > 0
            )
            for name, shares in self.frozen_shares(structure).items()
        }

    def follow(self, edit: "Edit") -> None:
        """Re-index the masks as `edit` did the parameters; fresh entries are free."""
        frozen, old = (
            {name: edit.reindex(name, mask, fresh=False) for name, mask in masks.items()}
            for masks in (self.frozen, self._old)
        )
        self._hold(frozen, old, dict(self.model.named_parameters()))

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values: masks and settings; the values are in the model."""
        return {
            "frozen": dict(self.frozen),
            "old": dict(self._old),
            "fraction": self.fraction,
            "per": self.per,
            "exclude": list(self.exclude),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned, once the model has been restored.

        Raises:
            PenaltyError: Something is missing or does not fit the model; nothing is loaded then.
        """
        missing = self.state_dict().keys() - state.keys()
        if missing:
            raise PenaltyError(f"the state lacks {', '.join(sorted(missing))}")
        parameters = dict(self.model.named_parameters())
        for masks in (state["frozen"], state["old"]):
            check_fit(masks, parameters, "the masks of hard protection")
            if any(mask.dtype != torch.bool for mask in masks.values()):
                raise PenaltyError(
                    "the masks of hard protection must be bool: load a state of HardProtection"
                )
        _check_settings(state["fraction"], state["per"])
        self.fraction, self.per = state["fraction"], state["per"]
        self.exclude = tuple(state["exclude"])
        self._hold(dict(state["frozen"]), dict(state["old"]), parameters)

    def _hold(
        self, frozen: dict[str, Tensor], old: dict[str, Tensor], parameters: Mapping[str, Tensor]
    ) -> None:
        """Hold these entries at the present values of the parameters."""
        self.frozen = {n: m.to(parameters[n].device) for n, m in frozen.items() if bool(m.any())}
        self._old = {name: mask.to(parameters[name].device) for name, mask in old.items()}
        self._values = {name: parameters[name].detach().clone() for name in self.frozen}

    def _held_parameters(self) -> dict[str, nn.Parameter]:
        """Return the model's parameters, and move masks and values to their device."""
        parameters = dict(self.model.named_parameters())
        check_fit(self.frozen, parameters, "the masks of hard protection")
        for held in (self.frozen, self._old, self._values):
            moved = {n: t for n, t in held.items() if t.device != parameters[n].device}
            held.update({n: t.to(parameters[n].device) for n, t in moved.items()})
        return parameters


def _most_important(
    omega: Mapping[str, Tensor],
    old: Mapping[str, Tensor],
    frozen: Mapping[str, Tensor],
    names: list[str],
    fraction: float,
) -> dict[str, Tensor]:
    """Return masks of `names` with more entries frozen, up to the fraction of the old ones."""
    flat = torch.cat([omega[n].flatten().double().cpu() for n in names])
    aged, held = (torch.cat([m[n].flatten().cpu() for n in names]) for m in (old, frozen))
    missing = int(fraction * int(aged.sum())) - int(held.sum())
    if missing > 0:
        free = torch.where(aged & ~held, flat, -1.0)
        held[free.topk(missing).indices] = True
    sizes = [omega[n].numel() for n in names]
    return {
        name: part.view(omega[name].shape).to(omega[name].device)
        for name, part in zip(names, torch.split(held, sizes), strict=True)
    }


def _check_settings(fraction: object, per: object) -> None:
    """Refuse a fraction out of range and an unknown word."""
    number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
    if not number or not 0 < fraction <= 1:  # type: ignore[operator]
        raise PenaltyError(f"fraction={fraction!r}: expected a number above 0 and at most 1")
    if per not in get_args(Per):
        known = ", ".join(map(repr, get_args(Per)))
        raise PenaltyError(f"per={per!r}: expected one of {known}")
