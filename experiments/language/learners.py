"""Ways to learn one domain after another: copies, adapters, one network, and one that grows."""

import copy
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from domains import LENGTH, Domain
from torch import Tensor, nn
from torch.func import functional_call
from transformers import GPT2Config, GPT2LMHeadModel

import growmas as gm
from growmas.training.methods.own_state import numbers_in

Adam = torch.optim.Adam


@dataclass(frozen=True)
class Size:
    """Widths of a GPT-2 of two blocks over bytes.

    Attributes:
        stream: Of the residual stream.
        inner: Neurons of each block.
        heads: Of each block.
    """

    stream: int = 64
    inner: int = 256
    heads: int = 4


@dataclass(frozen=True)
class Terms:
    """The settings of a run, for every learner.

    Attributes:
        domains: In the order in which they are learnt.
        rate: Learning rate of Adam.
        steps: Of each domain.
        first_steps: Of the first domain.
        seed: Of the start and of the batches.
    """

    domains: tuple[Domain, ...]
    rate: float
    steps: int
    first_steps: int
    seed: int

    def batches(self, place: int):
        """Return the batches of a domain."""
        steps = self.steps if place else self.first_steps
        return self.domains[place].batches(steps, 100 * self.seed + place)


def network(size: Size, seed: int) -> nn.Module:
    """Return a GPT-2 with random weights."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=256, n_positions=LENGTH, n_embd=size.stream, n_layer=2, n_head=size.heads,
        n_inner=size.inner, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def loss_of(net: nn.Module, batch: Tensor, weights=None) -> Tensor:
    """Return the mean negative log-likelihood of the bytes that follow, in nats."""
    logits = functional_call(net, weights or {}, (batch[:, :-1],)).logits
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def train(net: nn.Module, batches, optimizer, penalty_grad=lambda: None, weights=lambda: None):
    """Take a step for each batch; the rate rises over a tenth of them and falls to 0."""
    batches = list(batches)
    rise = len(batches) / 10
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rise, 1.0) * (1 - step / len(batches))
    )
    for batch in batches:
        optimizer.zero_grad()
        loss_of(net, batch, weights()).backward()
        penalty_grad()
        optimizer.step()
        schedule.step()


@cache
def base_of(size: Size, terms: Terms) -> nn.Module:
    """Return a network that has learnt the first domain."""
    net = network(size, terms.seed)
    train(net, terms.batches(0), Adam(net.parameters(), terms.rate))
    return net


class Learner:
    """Train one network on and on; the base class of all learners.

    Attributes:
        net: The network.
        numbers: Numbers kept to answer and to learn on.
    """

    def __init__(self, size: Size, terms: Terms):
        """Begin with a network that has learnt the first domain."""
        self.size, self.terms = size, terms
        self.net = copy.deepcopy(base_of(size, terms))

    @property
    def numbers(self) -> int:
        """Numbers kept."""
        return sum(p.numel() for p in self.net.parameters())

    def learn(self, place: int):
        """Learn a domain."""
        if place:
            train(self.net, self.terms.batches(place), Adam(self.net.parameters(), self.terms.rate))

    @torch.no_grad()
    def nats(self, place: int, windows: Tensor) -> float:
        """Return the mean negative log-likelihood of windows of a domain that was learnt."""
        return loss_of(self.net, windows).item()


class Copies(Learner):
    """Keep the network that each domain leaves; the next one starts from it, or anew."""

    def __init__(self, size: Size, terms: Terms, *, warm: bool):
        """Begin without copies."""
        super().__init__(size, terms)
        self.warm, self.kept = warm, []

    @property
    def numbers(self) -> int:
        """Numbers of all copies."""
        return len(self.kept) * super().numbers

    def learn(self, place: int):
        """Learn a domain, and keep the network."""
        if place and not self.warm:
            self.net = network(self.size, self.terms.seed + 1000 * place)
        super().learn(place)
        self.kept.append(copy.deepcopy(self.net))

    @torch.no_grad()
    def nats(self, place: int, windows: Tensor) -> float:
        """Answer by the copy of the domain."""
        return loss_of(self.kept[place], windows).item()


class Adapters(Learner):
    """Keep low-rank changes of all matrices for each domain, on the network of the first one."""

    def __init__(self, size: Size, terms: Terms, *, rank: int):
        """Begin without adapters."""
        super().__init__(size, terms)
        self.rank, self.held = rank, []
        self.net.requires_grad_(False)

    @property
    def numbers(self) -> int:
        """Numbers of the network and of all adapters."""
        return super().numbers + sum(p.numel() for held in self.held for p in held.values())

    def learn(self, place: int):
        """Learn the adapters of a domain."""
        held, generator = {}, torch.Generator().manual_seed(self.terms.seed)
        if place:
            for name, weight in self.net.named_parameters():
                if weight.dim() == 1:
                    held[name] = weight.clone().requires_grad_()
                elif ".h." in name:
                    into, out = weight.shape
                    a = torch.randn(into, self.rank, generator=generator) / into**0.5
                    held[f"{name}/A"] = a.requires_grad_()
                    held[f"{name}/B"] = torch.zeros(self.rank, out, requires_grad=True)
        self.held.append(held)
        if place:
            optimizer = Adam(held.values(), self.terms.rate)
            batches = self.terms.batches(place)
            train(self.net, batches, optimizer, weights=lambda: self._weights(place))

    def _weights(self, place: int):
        held = self.held[place]
        changed = {name: tensor for name, tensor in held.items() if "/" not in name}
        for name in {name.partition("/")[0] for name in held if "/" in name}:
            base = self.net.get_parameter(name)
            changed[name] = base + held[f"{name}/A"] @ held[f"{name}/B"]
        return changed

    @torch.no_grad()
    def nats(self, place: int, windows: Tensor) -> float:
        """Answer by the network with the adapters of the domain."""
        return loss_of(self.net, windows, self._weights(place)).item()


class Growing(Learner):
    """Grow for each domain; old weights are frozen, penalised, or whichever proves better.

    The strengths that are tried are a tenth, once and ten times what `MAS.propose_strength`
    proposes. Scores are of held-out windows of both domains, the first one in its view.
    """

    def __init__(self, size: Size, terms: Terms, *, protect: str, grow: int, init="zero_out"):
        """Find the units of a network that has learnt the first domain.

        Args:
            size: At first.
            terms: Of the run.
            protect: "old", "penalty" at the strength that is proposed, or "auto".
            grow: Neurons that each block gets with each domain, and a head with them; 0 for none.
            init: How they start.
        """
        super().__init__(size, terms)
        self.structure = gm.Structure(self.net, self._importance_batches(0)[0])
        self.mas = gm.MAS(self.net, strength=1.0)
        self.optimizer = Adam(self.net.parameters(), terms.rate)
        self.choice, self.init = protect, init
        held = {"old": "old", "penalty": None, "auto": None}[protect]
        if protect == "auto":
            held = gm.AutoProtection(self.structure, self.mas, strengths=(1.0,))
        widths = {
            name: 1 if name.endswith("heads") else grow
            for name in self.structure.groups
            if ".h." in name
        }
        self.manager = gm.StructuralManager(
            self.structure, mas=self.mas, optimizer=self.optimizer, protect=held,
            per_task=("gains", "biases"), grow=gm.GrowPolicy(units=widths) if grow else None,
        )  # fmt: skip

    @property
    def numbers(self) -> int:
        """Numbers of the network, of its views, of Ω and anchors."""
        kept = numbers_in([self.mas.omega, self.mas.anchor, self.manager.state_dict()])
        return super().numbers + self.structure.kept_for_views + kept

    def _importance_batches(self, place: int) -> list[Tensor]:
        batches = self.terms.domains[place].batches(8, 7 + 100 * self.terms.seed + place)
        return [batch[:, :-1] for batch in batches]

    def learn(self, place: int):
        """Grow, choose how old weights are protected, learn, and measure importance."""
        domain = self.terms.domains[place]
        self.manager.begin_task(domain.name, init=self.init)
        if place == 1 and self.choice != "old":
            self._choose()
        if place:
            self._train(place)
        self.manager.end_task(self._importance_batches(place))

    def _train(self, place: int):
        self.optimizer.state.clear()  # as the others, which begin with a new optimizer
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] = self.terms.rate
        train(self.net, self.terms.batches(place), self.optimizer, self.mas.penalty_grad_)

    def _choose(self):
        batches = list(self.terms.batches(1))
        fresh = partial(Adam, lr=self.terms.rate)
        strength = self.mas.propose_strength(batches, loss_of, optimizer=fresh)
        self.mas.strength = strength
        if self.choice == "penalty":
            return
        auto = self.manager.protect
        auto.strengths = (strength / 10, strength, strength * 10)
        found = auto.choose(lambda: self._train(1), self._score, optimizer=self.optimizer)
        self.choice = str(found)

    def _score(self) -> float:
        domains = self.terms.domains[:2]
        return -sum(self.nats(place, each.validation) for place, each in enumerate(domains))

    @torch.no_grad()
    def nats(self, place: int, windows: Tensor) -> float:
        """Answer by the view of the domain."""
        with self.structure.view(self.terms.domains[place].name) as net:
            return loss_of(net, windows).item()
