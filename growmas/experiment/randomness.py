"""Random generators, one for each purpose of an experiment."""

import numpy as np
import torch


def random_generator(seed: int, purpose: str) -> torch.Generator:
    """Return a generator for one purpose, so that methods share all randomness but their own."""
    words = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)


def derived_seed(seed: int, purpose: str) -> int:
    """Return the seed of `random_generator`, for parts that make a generator of their own."""
    return random_generator(seed, purpose).initial_seed()
