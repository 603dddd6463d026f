"""Ways to learn one domain after another with a network of fixed size: copies, adapters, one."""

import copy
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from domains import LENGTH, Domain
from torch import Tensor, nn
from torch.func import functional_call
from transformers import GPT2Config, GPT2LMHeadModel

Adam = torch.optim.Adam


SHARES = tuple(tenth / 10 for tenth in range(1, 11))
"""Of the way from the weights before a domain to those after it, of which one is chosen."""


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

    With `average`, the weights go back some of the way after each domain, to an average of those
    before and after it (Wortsman et al., 2022, who do so after fine-tuning). How much of the way
    is kept is the best of `SHARES` on held-out windows of all domains so far. These windows are
    kept for it between domains, and no weights.

    Attributes:
        net: The network.
        choice: What was chosen on held-out windows.
        to_answer: Numbers that are needed to answer.
        numbers: Numbers kept between domains, to answer and to learn on.
    """

    def __init__(self, size: Size, terms: Terms, *, average: bool = False):
        """Begin with a network that has learnt the first domain."""
        self.size, self.terms, self.average = size, terms, average
        self.net = copy.deepcopy(base_of(size, terms))
        self.choice = ""

    @property
    def to_answer(self) -> int:
        """Numbers of the network."""
        return sum(p.numel() for p in self.net.parameters())

    @property
    def numbers(self) -> int:
        """The same, and the held-out windows of earlier domains by which an average is chosen."""
        earlier = self.terms.domains[:-1] if self.average else ()
        return self.to_answer + sum(each.validation.numel() for each in earlier)

    def learn(self, place: int):
        """Learn a domain."""
        if not place:
            return
        before = self._weights()
        self.train(place)
        if self.average:
            self._go_back(before, place + 1)

    def train(self, place: int):
        """Train the network on a domain."""
        train(self.net, self.terms.batches(place), Adam(self.net.parameters(), self.terms.rate))

    def shared(self) -> dict[str, Tensor]:
        """Return name -> mask of the entries that earlier domains use, too; all if not named."""
        return {}

    @torch.no_grad()
    def nats(self, place: int, windows: Tensor) -> float:
        """Return the mean negative log-likelihood of windows of a domain that was learnt."""
        return loss_of(self.net, windows).item()

    def score(self, domains: int = 2) -> float:
        """Return the negative loss on held-out windows of the first domains, summed."""
        first = self.terms.domains[:domains]
        return -sum(self.nats(place, each.validation) for place, each in enumerate(first))

    def _weights(self):
        return {name: p.detach().clone() for name, p in self.net.named_parameters()}

    def _go_back(self, before, domains: int):
        after, masks, scores = self._weights(), self.shared(), {}
        for share in SHARES:
            self._go(before, after, masks, share)
            scores[share] = self.score(domains)
        best = max(scores, key=scores.get)
        self.choice += f"{', ' if self.choice else 'shares: '}{best:g}"
        self._go(before, after, masks, best)

    @torch.no_grad()
    def _go(self, before, after, masks, share: float):
        for name, p in self.net.named_parameters():
            there = torch.lerp(before[name], after[name], share)
            p.copy_(torch.where(masks[name], there, after[name]) if name in masks else there)


class Copies(Learner):
    """Keep the network that each domain leaves; the next one starts from it, or anew."""

    def __init__(self, size: Size, terms: Terms, *, warm: bool):
        """Begin without copies."""
        super().__init__(size, terms)
        self.warm, self.kept = warm, []

    @property
    def to_answer(self) -> int:
        """Numbers of all copies."""
        return len(self.kept) * super().to_answer

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
    def to_answer(self) -> int:
        """Numbers of the network and of all adapters."""
        return super().to_answer + sum(p.numel() for held in self.held for p in held.values())

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
