"""A network that grows for each domain, with old weights frozen, penalised, or as proves better."""

from functools import partial

import torch
from learners import Learner, Size, Terms, loss_of, train
from torch import Tensor

import growmas as gm
from growmas.training.methods.own_state import numbers_in


class Growing(Learner):
    """Grow for each domain; old weights are frozen, penalised, or whichever proves better.

    Scores of a choice are of held-out windows of the first two domains, the first one in its view.
    """

    def __init__(
        self,
        size: Size,
        terms: Terms,
        *,
        protect: str,
        grow: int,
        heads: int = 1,
        init: str = "zero_out",
        own: bool = True,
        scales: tuple[float, ...] = (0.1, 1.0, 10.0),
        importance: str = "mas",
        omega: str = "entries",
    ):
        """Find the units of a network that has learnt the first domain.

        Args:
            size: At first.
            terms: Of the run.
            protect: "old", "penalty" at the first of the strengths, "auto", or "average" of the
                weights before and after each domain: nothing is kept to learn on.
            grow: Neurons that each block gets with each domain; 0 for no growth.
            heads: Heads that each block gets with each domain.
            init: How they start.
            own: Each domain has norms, gains and biases of its own.
            scales: The strengths of a penalty, as multiples of what `MAS.propose_strength`
                proposes on the second domain.
            importance: "mas", of the logits, or "fisher", of the likelihood of the bytes.
            omega: The importance that is kept: of all "entries", "factored" into a number for each
                row and each column of a matrix, or "none", 1 for all entries.
        """
        super().__init__(size, terms, average=protect == "average")
        self.structure = gm.Structure(self.net, self._importance_batches(0)[0])
        self.mas = gm.MAS(self.net, strength=0.0 if protect == "average" else 1.0)
        self.optimizer = torch.optim.Adam(self.net.parameters(), terms.rate)
        self.protect, self.init, self.own, self.scales = protect, init, own, scales
        self.choice = "" if protect == "average" else protect
        self.importance, self.omega = importance, omega
        self.old = gm.BirthProtection(self.structure)  # tells which entries are old; holds nothing
        held = {"old": "old", "penalty": None, "auto": None, "average": None}[protect]
        if protect == "auto":
            held = gm.AutoProtection(self.structure, self.mas, strengths=(1.0,))
        widths = {
            name: heads if name.endswith("heads") else grow
            for name in self.structure.groups
            if ".h." in name and (heads or not name.endswith("heads"))
        }
        self.manager = gm.StructuralManager(
            self.structure,
            mas=self.mas,
            optimizer=self.optimizer,
            protect=held,
            per_task=("gains", "biases") if own else (),
            grow=gm.GrowPolicy(units=widths) if grow else None,
        )

    @property
    def to_answer(self) -> int:
        """Numbers of the network and of its views."""
        return super().to_answer + self.structure.kept_for_views

    @property
    def numbers(self) -> int:
        """The same with Ω and anchors, or with the windows by which an average is chosen."""
        held = numbers_in([self.mas.anchor, self.manager.state_dict()])
        omega = sum(_kept(tensor, self.omega) for tensor in self.mas.omega.values())
        return super().numbers + held + omega

    def shared(self) -> dict[str, Tensor]:
        """Return masks of what was there before: neither newborns nor what is a domain's own."""
        masks = {}
        for name, p in self.net.named_parameters():
            own = self.own and p.dim() == 1
            masks[name] = torch.zeros_like(p, dtype=torch.bool) if own else self.old.frozen[name]
        return masks

    def _windows(self, place: int) -> list[Tensor]:
        return list(self.terms.domains[place].batches(8, 7 + 100 * self.terms.seed + place))

    def _importance_batches(self, place: int) -> list[Tensor]:
        return [batch[:, :-1] for batch in self._windows(place)]

    def learn(self, place: int):
        """Grow, choose how old weights are protected, learn, and measure importance."""
        domain = self.terms.domains[place]
        self.manager.begin_task(domain.name, init=self.init)
        if place == 1 and self.protect in ("penalty", "auto"):
            self._choose()
        super().learn(place)
        held = dict(self.mas.omega)
        self.manager.end_task(self._importance_batches(place))
        found = self.mas.omega
        if self.importance == "fisher" and found:
            fisher = self._fisher(place)
            found = {name: held.get(name, 0) + fisher[name] for name in found}
        self.mas.omega = {name: summary(each, self.omega) for name, each in found.items()}
        if self.protect == "average":
            self.mas.omega, self.mas.anchor, self.mas.tasks, self.mas.measured = {}, {}, 0, ()
            self.old.freeze(self._importance_batches(place))

    def _fisher(self, place: int) -> dict[str, Tensor]:
        batches = [(batch[:, :-1], batch[:, 1:]) for batch in self._windows(place)]
        return gm.fisher_information(
            self.net, batches, forward=lambda net, batch: net(batch[0]).logits
        )

    def train(self, place: int):
        """Train old and new units, under a penalty if there is one."""
        self.optimizer.state.clear()  # as the others, which begin with a new optimizer
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] = self.terms.rate
        train(self.net, self.terms.batches(place), self.optimizer, self.mas.penalty_grad_)

    def _choose(self):
        batches = list(self.terms.batches(1))
        fresh = partial(torch.optim.Adam, lr=self.terms.rate)
        proposed = self.mas.propose_strength(batches, loss_of, optimizer=fresh)
        strengths = tuple(scale * proposed for scale in self.scales)
        self.mas.strength = strengths[0]
        if self.protect == "penalty":
            self.choice = f"penalty: {strengths[0]:.3g}"
            return
        auto = self.manager.protect
        auto.strengths = strengths
        found = auto.choose(lambda: self.train(1), self.score, optimizer=self.optimizer)
        self.choice = str(found)

    @torch.no_grad()
    def nats(self, place: int, windows: Tensor) -> float:
        """Answer by the view of the domain."""
        with self.structure.view(self.terms.domains[place].name) as net:
            return loss_of(net, windows).item()


def summary(omega: Tensor, kind: str) -> Tensor:
    """Return Ω as it is kept: as it is, of rank 1 with the same sums, or 1 for all entries.

    Rank 1 is the sum of each row times the sum of each column, over the sum of all (Shazeer and
    Stern, 2018, who factor second moments in this way).
    """
    if kind == "entries":
        return omega
    if kind == "none":
        return torch.ones_like(omega)
    if omega.dim() < 2 or not omega.any():
        return omega
    rows, columns = omega.sum(1, keepdim=True), omega.sum(0, keepdim=True)
    return (rows * columns / omega.sum()).contiguous()


def _kept(omega: Tensor, kind: str) -> int:
    """Return the numbers that a summary keeps of a tensor."""
    return {
        "entries": omega.numel(),
        "factored": sum(omega.shape) if omega.dim() > 1 else omega.numel(),
        "none": 0,
    }[kind]
