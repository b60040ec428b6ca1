"""Random draws of the data layer: they depend on the seed, the purpose and the block, not on ranks, not on order.

Philox is a counter-based generator (Salmon et al., SC 2011): each (key, counter) is a stream of its own, for the price of
writing four integers.
"""

from enum import IntEnum

from numpy.random import Generator, Philox


class Purpose(IntEnum):
    """What draws are for. Numbers are part of every model's bytes: never change one, only add."""

    TRUTH = 1  # centres, coefficients: what synthetic data are made of
    ROWS = 2  # the rows of synthetic data
    SPLIT = 3  # rows held back for validation


def generator(seed: int, purpose: Purpose, *, block: int = 0) -> Generator:
    """The stream of one block. Streams of two blocks are 2^192 draws apart."""
    return Generator(Philox(key=[seed, purpose], counter=[0, 0, 0, block]))
