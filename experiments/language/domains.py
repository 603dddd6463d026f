"""Three domains of bytes that come with Python and torch: code, prose and C++ headers."""

import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from pydoc_data import topics

import torch
from torch import Tensor

LENGTH = 64  # bytes that are read at a time
BYTES = 400_000  # of a domain that are learnt
HELD_OUT = 192  # windows of each domain for a choice, and as many for the test


@dataclass(frozen=True)
class Domain:
    """Text of one kind.

    Attributes:
        name: What it is.
        train: [bytes], to draw windows from.
        validation: [HELD_OUT, LENGTH + 1], windows of other documents, for choices.
        test: The same, of others again.
    """

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor

    def batches(self, steps: int, seed: int, size: int = 16):
        """Yield `steps` batches of random windows, [size, LENGTH + 1]."""
        generator = torch.Generator().manual_seed(seed)
        reach = torch.arange(LENGTH + 1)
        for _ in range(steps):
            starts = torch.randint(len(self.train) - LENGTH - 1, (size, 1), generator=generator)
            yield self.train[starts + reach].long()


@cache
def domains() -> tuple[Domain, ...]:
    """Return code in Python, its documentation in English, and headers in C++."""
    library = Path(sysconfig.get_path("stdlib"))
    headers = Path(torch.__file__).parent / "include"
    return (
        _domain("code", [path.read_bytes() for path in sorted(library.glob("*.py"))]),
        _domain("prose", [text.encode() for _, text in sorted(topics.topics.items())]),
        _domain("headers", [path.read_bytes() for path in sorted(headers.glob("c10/**/*.h"))]),
    )


def _domain(name: str, documents: list[bytes]) -> Domain:
    """Return a domain; every tenth document is for choices, and every tenth for the test."""
    parts = [b"\n".join(documents[place::10]) for place in range(10)]
    train = torch.frombuffer(bytearray(b"\n".join(parts[2:])), dtype=torch.uint8)
    return Domain(name, train[:BYTES], _windows(parts[0]), _windows(parts[1]))


def _windows(text: bytes) -> Tensor:
    """Return windows that are spread evenly over a text, [HELD_OUT, LENGTH + 1]."""
    values = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    starts = torch.linspace(0, len(values) - LENGTH - 1, HELD_OUT).long()
    return values[starts[:, None] + torch.arange(LENGTH + 1)].long()
