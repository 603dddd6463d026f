"""Recordings: a random sample of the rows that consumers read, and of what follows them.

A row is one sample at one position of a consumer's output. The same sites are drawn whenever a
batch goes through, so that rows of a network before and after an edit belong together.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from growmas.structure.reconstruction.consumers import Consumer, Listener
from growmas.structure.reconstruction.endings import NORMS, SUMS, Ending, tensors_in

ROWS = 20_000
"""Largest number of rows of a layer; more change the accuracy after a repair by less than noise."""

_NUMBERS = 2**26
"""Largest number of float32 numbers (256 MiB) in the rows of one layer."""


class Enough(Exception):
    """Ends a forward pass once everything that is recorded has been seen."""


@dataclass(eq=False)
class Rows:
    """Rows recorded of one consumer, chunk by chunk.

    Attributes:
        seen: Inputs [G, R, F] of each chunk; empty if they were not asked for.
        given: Results [R, C]: of the layer, or of the norm that follows it.
        skip: What is added to that [R, C]; empty if nothing is.
        calls: Number of calls for each batch.
    """

    seen: list[Tensor] = field(default_factory=list)
    given: list[Tensor] = field(default_factory=list)
    skip: list[Tensor] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of rows, R."""
        return sum(len(chunk) for chunk in self.given)


@dataclass(frozen=True, eq=False)
class _Call:
    """A call of a layer whose ending has not been seen yet.

    Attributes:
        name: The layer.
        sites: [R], the rows that are kept; None for all.
        rows: [G, R, F], its input; None if it is not recorded.
        output: Its output, or that of the norm.
    """

    name: str
    sites: Tensor | None
    rows: Tensor | None
    output: Tensor


def row_limit(consumer: Consumer) -> int:
    """Return how many rows of a consumer are kept at most."""
    fit = _NUMBERS // (consumer.features * consumer.blocks)
    return min(ROWS, fit if consumer.wide else max(fit, 2 * consumer.features))


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records rows of consumers while batches go through a network.

    Args:
        consumers: Layer name -> consumer.
        endings: Layer name -> what follows it.
        shares: For each batch, its share of all rows.
        features: False leaves the inputs out, except hidden states of recurrent layers.
        expected: Layer name -> calls of each batch; passes end early after them. None if unknown.
    """

    def __init__(
        self,
        consumers: Mapping[str, Consumer],
        endings: Mapping[str, Ending],
        shares: list[float],
        *,
        features: bool = True,
        expected: Mapping[str, list[int]] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows = {name: Rows() for name in consumers}
        self._consumers, self._endings, self._shares = consumers, endings, shares
        self._features, self._expected = features, expected
        self._batch = -1
        self._done: dict[str, int] = {}
        self._pending: dict[int, _Call] = {}

    @contextmanager
    def listening(self, model: nn.Module) -> Iterator[None]:
        """Listen to the consumers in a network, and to torch's operations after them."""
        with ExitStack() as stack:
            for name, consumer in self._consumers.items():
                stack.callback(consumer.listen(model, self._listener(name)).remove)
            stack.enter_context(self)
            yield

    def run(self, forward: Callable[[], Any]) -> None:
        """Send the next batch through."""
        self._batch += 1
        self._done = dict.fromkeys(self.rows, 0)
        self._pending.clear()
        with suppress(Enough):
            forward()
        for name, rows in self.rows.items():
            rows.calls.append(self._done[name])
        self._pending.clear()

    def _listener(self, name: str) -> Listener:
        consumer, ending = self._consumers[name], self._endings[name]

        def listen(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
        ) -> None:
            with _disabled(self):
                seen = args[0] if args else next(iter(kwargs.values()))
                sites = self._sites(consumer, output)
                wanted = self._features or consumer.inner
                rows = consumer.sampled(seen.detach(), output, sites) if wanted else None
                call = _Call(name, sites, rows, output)
                if ending.norm is None and not ending.summed:
                    self._finish(call, output.detach(), None)
                else:
                    self._pending[id(output)] = call

        return listen

    def _sites(self, consumer: Consumer, output: Tensor) -> Tensor | None:
        """Draw the rows of one call; None takes all."""
        total = consumer.positions(output)
        wanted = max(1, round(row_limit(consumer) * self._shares[self._batch]))
        if total <= wanted:
            return None
        generator = torch.Generator().manual_seed(self._batch)
        drawn = torch.randperm(total, generator=generator)[:wanted]
        return drawn.sort().values.to(output.device)

    def _finish(self, call: _Call, given: Tensor, skip: Tensor | None) -> None:
        name, consumer = call.name, self._consumers[call.name]
        if call.rows is not None:
            self.rows[name].seen.append(call.rows)
        self.rows[name].given.append(consumer.given(given, call.sites))
        if skip is not None:
            self.rows[name].skip.append(consumer.given(skip, call.sites))
        self._done[name] += 1
        if self._expected is not None and all(
            self._done[each] >= self._expected[each][self._batch] for each in self.rows
        ):
            raise Enough

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation; look at those that read what a consumer gave."""
        if not self._pending or not (func in NORMS or func in SUMS):
            return func(*args, **(kwargs or {}))
        read = [tensor for tensor in tensors_in(args) if id(tensor) in self._pending]
        if not read:
            return func(*args, **(kwargs or {}))
        if func in SUMS:
            self._see_sum(args, read)
            return func(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        self._see_norm(read[0], result[0])
        return result

    def _see_sum(self, args: Any, read: list[Tensor]) -> None:
        for tensor in read:
            call = self._pending.get(id(tensor))
            if call is None or not self._endings[call.name].summed or len(args) != 2:
                continue
            del self._pending[id(tensor)]
            self._finish(call, call.output, args[1] if args[0] is tensor else args[0])

    def _see_norm(self, tensor: Tensor, result: Tensor) -> None:
        call = self._pending.pop(id(tensor))
        if self._endings[call.name].norm is None:
            return
        if self._endings[call.name].summed:
            self._pending[id(result)] = replace(call, output=result)
        else:
            self._finish(call, result, None)


@contextmanager
def _disabled(mode: TorchDispatchMode) -> Iterator[None]:
    """Leave a dispatch mode while its own code runs."""
    with torch.utils._python_dispatch._disable_current_modes():
        yield
