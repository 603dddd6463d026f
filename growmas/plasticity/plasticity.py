"""The replacement of low-utility units, step by step while a network learns."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import Adam, AdamW, Optimizer

from growmas.batches import Forward, default_forward
from growmas.errors import DataError
from growmas.importance import mas_importance
from growmas.penalty import MAS
from growmas.plasticity.checks import check_optimizers, groups_skipped
from growmas.plasticity.choice import cause_of, chosen, reason_of
from growmas.plasticity.guard import Frozen, guarded
from growmas.plasticity.population import Population
from growmas.plasticity.recorder import Reader, Readers, Recorder, readers_of
from growmas.plasticity.settings import ReplacementSettings
from growmas.plasticity.utility import Numbers, by_importance, measured, saturates
from growmas.preserving import preserving
from growmas.structure import Edit, Structure, Warmup
from growmas.structure.followers.followers import as_followers, check_followers

_LOG = logging.getLogger("growmas")


class Plasticity:
    """Replaces units of low utility in place, in a training loop of your own.

    Call `step` after every step of the optimizer. Every `every` steps it looks at the activations
    of the training pass just made, and replaces the units that have done little for a while, in
    families of mates that cancel each other. The state of the optimizer is that of new entries;
    under Adam and AdamW, a `Warmup` gives them the bias correction of their own age.

    Between measurements a step costs one comparison; nothing is allocated.

    Example:
        >>> import torch, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> structure = growmas.Structure(net, torch.rand(5, 4))
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> plasticity = growmas.Plasticity(structure, optimizer, growmas.ReplaceLowUtility())
        >>> for _ in range(30):
        ...     optimizer.zero_grad()
        ...     net(torch.rand(16, 4)).square().mean().backward()
        ...     optimizer.step()
        ...     edits = plasticity.step()

    Attributes:
        structure: The units of the network.
        settings: What counts as low, and how many units are replaced.
        skipped: Group name -> the reason why its units are never replaced.
        exhausted: Names of the groups in which a unit of low utility would have been replaced, but
            old tasks need every mature unit: growth is what is left there.
        steps: Number of steps taken.
        replaced: Number of units replaced so far.
    """

    def __init__(
        self,
        structure: Structure,
        optimizer: Optimizer | Iterable[Optimizer],
        settings: ReplacementSettings,
        *,
        mas: MAS | None = None,
        followers: Iterable[object] = (),
        warm_up: bool = True,
        frozen: Frozen | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            structure: The units of the network.
            optimizer: The optimizer of its parameters, or several.
            settings: Such as `ReplaceLowUtility()`.
            mas: Importance and anchors; it guards the units of old tasks, and follows.
            followers: Everything else that must follow: averaged copies, statistics. A `Warmup` of
                the optimizer among them is used; without one it is made.
            warm_up: False leaves Adam's correction to the step of the whole tensor, which makes
                the first updates of fresh units several times too large.
            frozen: Returns units that stay in any case, such as
                `BirthProtection(structure).frozen_units`.

        Raises:
            PlanError: A group does not exist, nothing can be replaced, or an optimizer does not
                hold the model's parameters.
            SurgeryError: A follower cannot follow.
        """
        self.structure = structure
        self.settings = settings
        optimizers = (optimizer,) if isinstance(optimizer, Optimizer) else tuple(optimizer)
        check_optimizers(optimizers, structure)
        given = [f for f in as_followers(followers) if f not in optimizers and f is not mas]
        check_followers([*optimizers, *given], structure.model)
        self._warmups = {w.optimizer: w for w in given if isinstance(w, Warmup)}
        self._new_warmups = tuple(
            Warmup(structure.model, each)
            for each in optimizers
            if warm_up and isinstance(each, Adam | AdamW) and each not in self._warmups
        )
        self._warmups |= {warmup.optimizer: warmup for warmup in self._new_warmups}
        others = [f for f in given if not isinstance(f, Warmup)]
        self._mas = mas
        self._frozen = frozen
        self._followers = (*optimizers, *self._warmups.values(), *others)
        self._followers += () if mas is None else (mas,)
        self._recorder = Recorder()
        self._populations: dict[str, Population] = {}
        self._readers: dict[str, tuple[Any, tuple[Reader, ...]]] = {}
        self.exhausted: tuple[str, ...] = ()
        self.steps = 0
        self.replaced = 0
        self.skipped = groups_skipped(structure, settings)
        self._follow()
        self._arm()

    @property
    def new_warmups(self) -> tuple[Warmup, ...]:
        """The warm-ups that were not among the followers given."""
        return self._new_warmups

    @property
    def warmups(self) -> tuple[Warmup, ...]:
        """The warm-ups of the optimizers; other edits of the network must be followed by them."""
        return tuple(self._warmups.values())

    def step(self, batch: Any = None, *, forward: Forward | None = None) -> tuple[Edit, ...]:
        """Take a step; call it after every step of the optimizer. Return the edits made.

        Args:
            batch: The batch just learnt. Utility "importance" measures on it; others use the
                training pass just made, and the batch only if no pass was seen.
            forward: How the batch goes through the model.

        Raises:
            DataError: No training pass was seen and no batch was given, or a utility is NaN or of
                the wrong shape.
            SurgeryError: The call was made inside a view, or an edit failed.
        """
        self.steps += 1
        if self.steps % self.settings.every:
            if (self.steps + 1) % self.settings.every == 0:
                self._arm()
            return ()
        found = self._measure(batch, forward)
        units = {}
        exhausted = []
        for name, utility in found.items():
            population = self._populations[name]
            population.measure(utility, self.settings.decay)
            choice = chosen(self.settings, population, self.steps, partial(self._needed, name))
            exhausted += [name] * choice.exhausted
            if choice.units:
                units[name] = choice.units
        self._note_exhausted(tuple(exhausted))
        edits = (self._renew(units),) if units else ()
        if self.settings.every == 1:
            self._arm()
        return edits

    def close(self) -> None:
        """Stop watching the model and the optimizers."""
        self._recorder.disarm()
        for warmup in self._warmups.values():
            warmup.close()

    def state_dict(self) -> dict[str, Any]:
        """Return ages, utilities and warm-ups as tensors and JSON values."""
        self._follow()
        return {
            "steps": self.steps,
            "replaced": self.replaced,
            "populations": {n: p.state_dict() for n, p in self._populations.items()},
            "warmups": [
                {name: {str(dim): v for dim, v in axes.items()} for name, axes in w.born.items()}
                for w in self._warmups.values()
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, once structure and optimizers are restored.

        Raises:
            DataError: Something is missing, or the units are others.
        """
        missing = sorted({"steps", "replaced", "populations", "warmups"} - state.keys())
        if missing:
            raise DataError(f"the state of the replacement lacks {', '.join(missing)}")
        groups = self.structure.groups
        self._populations = {
            name: Population.restored(name, groups[name].unit_ids, held)
            for name, held in state["populations"].items()
            if name in groups
        }
        for warmup, born in zip(self._warmups.values(), state["warmups"], strict=True):
            warmup.load_state_dict(born)
        self.steps, self.replaced = int(state["steps"]), int(state["replaced"])
        self._arm()

    # Measuring

    def _arm(self) -> None:
        """Keep the activations of the next training pass, if the next step measures."""
        if (self.steps + 1) % self.settings.every == 0 and self.settings.utility != "importance":
            self._recorder.arm(self._current_readers())

    def _current_readers(self) -> Readers:
        found = {}
        for name, group in self.structure.groups.items():
            if name in self.skipped:
                continue
            known = self._readers.get(name)
            if known is None or known[0] is not group.members:
                known = self._readers[name] = (group.members, readers_of(self.structure, group))
            found[name] = known[1]
        return found

    def _follow(self) -> None:
        """Take over the units that other edits added and removed."""
        for name, group in self.structure.groups.items():
            if name in self.skipped:
                continue
            if name not in self._populations:
                self._populations[name] = Population(group.unit_ids, self.steps)
            self._populations[name].follow(group.unit_ids, self.steps)

    def _measure(self, batch: Any, forward: Forward | None) -> dict[str, Numbers]:
        """Return the utility of every unit in this step: group name -> [U]."""
        self._follow()
        settings, readers = self.settings, self._current_readers()
        if settings.utility == "importance":
            if batch is None:
                raise DataError(
                    "utility='importance' measures on the batch just learnt: give step(batch)"
                )
            batches = batch if isinstance(batch, list) else [batch]
            omega = mas_importance(self.structure.model, batches, forward=forward)
            return by_importance(self.structure, omega, tuple(readers))
        seen = self._recorder.take(readers)
        if not seen:
            seen = self._seen_on(batch, forward, readers)
        found = {}
        for name, activations in seen.items():
            group, population = self.structure.groups[name], self._populations[name]
            if activations.shape[1] != group.width:  # edited since the pass
                continue
            if population.around_mean is None:
                population.around_mean = saturates(activations)
            entries = self.structure.entries(name)
            around = population.around_mean
            found[name] = measured(
                settings.utility, group, activations, entries, around_mean=around
            )
        return found

    def _seen_on(
        self, batch: Any, forward: Forward | None, readers: Readers
    ) -> dict[str, torch.Tensor]:
        """Return the activations on a batch, where no training pass was seen."""
        if batch is None:
            raise DataError(
                "no training pass of the model was seen since the last step: call step() after "
                "loss.backward() and optimizer.step(), or give step(batch)"
            )
        self._recorder.arm(readers, grads=False)
        with preserving(self.structure.model), torch.no_grad():
            for each in batch if isinstance(batch, list) else [batch]:
                (forward or default_forward)(self.structure.model, each)
        return self._recorder.take(readers)

    def _needed(self, name: str) -> NDArray[np.bool_]:
        """Return [U], true for the units of a group that old tasks need."""
        group, entries = self.structure.groups[name], self.structure.entries(name)
        held = guarded(self._mas, group, entries, self.settings.guard)
        if self._frozen is not None:
            held |= group.mask(self._frozen().get(name, ())).numpy()
        return held

    def _renew(self, units: Mapping[str, Sequence[int]]) -> Edit:
        groups = self.structure.groups
        ids = {name: [groups[name].unit_ids[i] for i in where] for name, where in units.items()}
        edit = self.structure.renew(
            ids,
            followers=self._followers,
            reason=reason_of(self.settings, ids),
            cause=cause_of(self.settings, self._populations, units, self.steps),
            paired=self.settings.init == "paired",
        )
        for name, where in units.items():
            new = self.structure.groups[name].unit_ids
            self._populations[name].renewed(new, where, self.steps)
            self.replaced += len(where)
        return edit

    def _note_exhausted(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self.exhausted:
                _LOG.info(
                    "old tasks need every mature unit of %r: nothing unguarded is left to replace, "
                    "so that only growth makes room",
                    name,
                )
        self.exhausted = names
