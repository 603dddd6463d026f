"""Hard protection: what mattered most to earlier tasks does not move at all."""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from growmas.errors import PenaltyError
from growmas.penalty.settings import check_used, matches
from growmas.penalty.terms import check_fit

if TYPE_CHECKING:
    from growmas.structure import Edit, Structure

PER = ("tensor", "network")


class HardProtection:
    """The most important fraction of old parameters, frozen exactly; the rest stays plastic.

    An entry is old once its importance is above zero, so fresh units are free. After each task
    `freeze` holds the most important old entries until `fraction` of all old ones are frozen;
    what is frozen stays so, and leaves only with its unit. Entries that are not frozen may stay
    under the penalty of a `MAS`, which the frozen ones no longer feel.

    After every step of a guarded optimizer the frozen entries are put back to the very bits they
    had, whatever momentum, moments or weight decay did to them; other loops call `restore_`.
    Gradients are left as they are. It costs one more copy of the parameters.

    Pass it among the followers of every edit. What an edit itself does to a frozen entry
    (reconstruction above all) is deliberate: from then on the entry is held where the edit put it.

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
        fraction: Of the old entries, how many are frozen.
        per: Whether that holds of each tensor or of the network.
        exclude: Patterns of the parameters never frozen.
        frozen: Parameter name -> bool mask of the frozen entries; empty before the first `freeze`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        fraction: float,
        per: str = "tensor",
        exclude: Collection[str] = (),
    ) -> None:
        """Freeze nothing yet.

        Args:
            model: The network.
            fraction: Above 0 and at most 1.
            per: "tensor": that fraction of the old entries of each parameter; "network": of all
                together, wherever the most important ones are.
            exclude: Names of parameters never frozen; shell patterns such as "heads.*" count.

        Raises:
            PenaltyError: A fraction out of range, an unknown word, or a pattern without a match.
        """
        self.model: nn.Module = getattr(model, "_orig_mod", model)
        _check_settings(fraction, per)
        check_used("exclude", exclude, [name for name, _ in self.model.named_parameters()])
        self.fraction = fraction
        self.per = per
        self.exclude = tuple(exclude)
        self.frozen: dict[str, Tensor] = {}
        self._old: dict[str, Tensor] = {}
        self._values: dict[str, Tensor] = {}
        self._guarded: WeakKeyDictionary[Optimizer, Any] = WeakKeyDictionary()

    @property
    def share(self) -> float:
        """Frozen entries among all parameters of the network."""
        total = sum(p.numel() for p in self.model.parameters())
        return sum(int(mask.sum()) for mask in self.frozen.values()) / max(1, total)

    def guard(self, optimizer: Optimizer) -> Callable[[], None]:
        """Put frozen entries back after every step of `optimizer`; returns how to stop that.

        Raises:
            PenaltyError: It is no torch optimizer: call `restore_` after each of its steps.
        """
        if not isinstance(optimizer, Optimizer):
            raise PenaltyError(
                f"guard expects a torch optimizer, got {type(optimizer).__name__}: call restore_() "
                "after each step of anything else"
            )
        if optimizer not in self._guarded:
            hook = optimizer.register_step_post_hook(lambda *_: self.restore_())
            self._guarded[optimizer] = hook

        def stop() -> None:
            handle = self._guarded.pop(optimizer, None)
            if handle is not None:
                handle.remove()

        return stop

    def freeze(self, omega: Mapping[str, Tensor]) -> None:
        """Freeze more of what is old by now, the most important first, where it is now.

        Args:
            omega: Parameter name -> Ω ≥ 0, such as `mas.omega` after `consolidate`.

        Raises:
            PenaltyError: Importance of other names or shapes than the parameters', or not finite.
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
        """Freeze nothing any more, until `freeze` is called again."""
        self.frozen, self._old, self._values = {}, {}, {}

    @torch.no_grad()
    def restore_(self) -> None:
        """Put the frozen entries of the model back where they are held, bit by bit.

        Raises:
            PenaltyError: A parameter has changed its shape or its name since.
        """
        parameters = self._held_parameters()
        for name, mask in self.frozen.items():
            parameter = parameters[name]
            parameter.copy_(torch.where(mask, self._values[name], parameter))

    def frozen_shares(self, structure: "Structure") -> dict[str, Tensor]:
        """How much of what makes each unit is frozen: group name -> [U], from 0 to 1.

        The frozen entries among the old ones of the unit's incoming weights, its bias and the
        constants of its norms, as they were at the last `freeze`; 0 where none is old. 1 says
        that to first order the unit is to old inputs what it was.

        Args:
            structure: Of this model.
        """
        if structure.model is not self.model:
            raise PenaltyError("the structure is of another network than this protection")
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
        """Units of which at least that share is frozen: group name -> ids; see `frozen_shares`."""
        return {
            name: tuple(
                unit
                for unit, share in zip(structure.groups[name].unit_ids, shares, strict=True)
                if share >= at_least and share > 0
            )
            for name, shares in self.frozen_shares(structure).items()
        }

    def follow(self, edit: "Edit") -> None:
        """Re-index as `edit` did the parameters; fresh entries are free."""
        frozen, old = (
            {name: edit.reindex(name, mask, fresh=False) for name, mask in masks.items()}
            for masks in (self.frozen, self._old)
        )
        self._hold(frozen, old, dict(self.model.named_parameters()))

    def __getstate__(self) -> dict[str, Any]:
        """All but the guards: a copy holds another network, and nothing guards it yet."""
        return {name: value for name, value in vars(self).items() if name != "_guarded"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See `__getstate__`."""
        vars(self).update(state)
        self._guarded = WeakKeyDictionary()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values: `frozen`, `old` and the settings; values are the model's."""
        return {
            "frozen": dict(self.frozen),
            "old": dict(self._old),
            "fraction": self.fraction,
            "per": self.per,
            "exclude": list(self.exclude),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, once the model has been restored.

        Raises:
            PenaltyError: Something is missing, or does not fit the model; nothing is taken over
                then.
        """
        missing = self.state_dict().keys() - state.keys()
        if missing:
            raise PenaltyError(f"the state lacks {', '.join(sorted(missing))}")
        parameters = dict(self.model.named_parameters())
        for masks in (state["frozen"], state["old"]):
            check_fit(masks, parameters, "the masks of hard protection")
            if any(mask.dtype != torch.bool for mask in masks.values()):
                raise PenaltyError(
                    "the masks of hard protection must be bool: the state is another's"
                )
        _check_settings(state["fraction"], state["per"])
        self.fraction, self.per = state["fraction"], state["per"]
        self.exclude = tuple(state["exclude"])
        self._hold(dict(state["frozen"]), dict(state["old"]), parameters)

    def _hold(
        self, frozen: dict[str, Tensor], old: dict[str, Tensor], parameters: Mapping[str, Tensor]
    ) -> None:
        """Hold these entries where the parameters are now."""
        self.frozen = {n: m.to(parameters[n].device) for n, m in frozen.items() if bool(m.any())}
        self._old = {name: mask.to(parameters[name].device) for name, mask in old.items()}
        self._values = {name: parameters[name].detach().clone() for name in self.frozen}

    def _held_parameters(self) -> dict[str, nn.Parameter]:
        """The model's parameters, checked against the masks, which follow them to their device."""
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
    """Masks of the frozen entries of `names`, filled up to the fraction of the old ones."""
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
    number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
    if not number or not 0 < fraction <= 1:  # type: ignore[operator]
        raise PenaltyError(f"fraction={fraction!r}: expected a number above 0 and at most 1")
    if per not in PER:
        raise PenaltyError(f"per={per!r} is not known: give {', '.join(map(repr, PER))}")
