"""Blocks: the fixed runs of rows that are the unit of work, of randomness and of exactness.

Block b holds the rows [b * R, (b + 1) * R) of the data set, where R depends on the number of features only, never on the
number of workers. Rank r of W owns a contiguous range of blocks. Rows that are dropped or held back for validation leave
their block smaller; they never move rows to another block.

Legend: N rows of a block, D features.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

S = TypeVar("S")
T = TypeVar("T")

# About 4 MiB of float64 in a block: large enough for BLAS, small enough for a cache and for an even split.
BLOCK_VALUES = 1 << 19


def rows_per_block(num_features: int) -> int:
    """R: a power of two from 2,048 to 16,384. With fewer rows, encoding a block's D x D Gram matrix costs more than computing it."""
    return max(2_048, min(16_384, 1 << (max(1, BLOCK_VALUES // num_features).bit_length() - 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows that are used together. May be empty."""

    row_N: Tensor  # int64, global row numbers, ascending
    X_ND: Tensor  # float32 or float64, contiguous
    y_N: Tensor | None = None  # float64 targets, or int64 numbers of classes
    weight_N: Tensor | None = None  # float64, not negative; None: all 1

    def __len__(self) -> int:
        return len(self.row_N)

    @property
    def device(self) -> torch.device:
        """Where all that is as long as the rows is computed."""
        return self.X_ND.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """This rank's blocks in ascending order, and what all ranks know of the whole data set."""

    blocks: Sequence[Block]
    num_rows: int  # of all ranks, dropped and held-back rows not counted
    num_features: int
    num_blocks: int  # of all ranks; bounds how many partial sums are added
    classes: np.ndarray | None = None  # int64, bool or str, ascending: the labels behind the numbers in y_N
    threads: int = 1
    _pool: list[ThreadPoolExecutor] = field(default_factory=list, repr=False, compare=False)

    def sample(self, step: int) -> "Blocks":
        """Each `step`-th block of the data set: the same rows for any number of ranks. Counts stay those of the data set."""
        rows = rows_per_block(self.num_features)
        return replace(self, blocks=[b for b in self.blocks if len(b) and int(b.row_N[0]) // rows % step == 0])

    def map(self, fn: Callable[[Block], T]) -> Iterator[T]:
        """`fn` of each block, in the order of blocks. Blocks run in parallel, each on one thread with one BLAS thread."""
        if self.threads == 1 or len(self.blocks) < 2:
            yield from map(fn, self.blocks)
            return
        if not self._pool:
            self._pool.append(ThreadPoolExecutor(self.threads, thread_name_prefix="block"))
        yield from map_in_order(self._pool[0], fn, self.blocks, ahead=2 * self.threads)


def map_in_order(pool: ThreadPoolExecutor, fn: Callable[[S], T], items: Iterable[S], *, ahead: int) -> Iterator[T]:
    """As `map`, on the pool's threads, with at most `ahead` results in memory that nobody has taken yet."""
    waiting = iter(items)
    running = deque(pool.submit(fn, item) for item in islice(waiting, ahead))
    while running:
        result = running.popleft().result()
        running.extend(pool.submit(fn, item) for item in islice(waiting, 1))
        yield result


def own_blocks(num_rows: int, num_features: int, rank: int, size: int) -> range:
    """The contiguous range of blocks that belongs to one of `size` ranks: they differ by at most one block."""
    num_blocks = -(-num_rows // rows_per_block(num_features))
    return range(num_blocks * rank // size, num_blocks * (rank + 1) // size)
