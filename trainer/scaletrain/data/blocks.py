"""Blocks: the fixed runs of rows that are the unit of work, of randomness and of exactness.

Block b holds the rows [b * R, (b + 1) * R) of the data set, where R depends on the number of features only, never on the
number of workers. Rank r of W owns a contiguous range of blocks. Rows that are dropped or held back for validation leave
their block smaller; they never move rows to another block.

A rank's blocks are in its memory (a list), or stored elsewhere and read one by one whenever they are asked for.

Legend: N rows of a block, D features.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

S = TypeVar("S")
T = TypeVar("T")

# About 4 MiB of float64 in a block: large enough for BLAS, small enough for a cache and for an even split.
BLOCK_VALUES = 1 << 19
# A Gram matrix of so many features takes 200 MB on every rank, and its factorisation seconds. Above, solvers do without one.
GRAM_FEATURES = 5_000
WIDE_ROWS = 512  # 80 MB of float64 with 20,000 features
READERS = 3  # threads
READ_AHEAD = 6  # blocks: some come from the disk while the others wait to be worked on
READ_AHEAD_LARGE = 2  # of more values than BLOCK_VALUES


def rows_per_block(num_features: int) -> int:
    """R: a power of two from 2,048 to 16,384. With fewer rows, encoding a block's D x D Gram matrix costs more than computing it.

    With too many features for that matrix it is WIDE_ROWS: what is left to encode is D numbers, and a block takes less memory.
    """
    if num_features > GRAM_FEATURES:
        return WIDE_ROWS
    return max(2_048, min(16_384, 1 << (max(1, BLOCK_VALUES // num_features).bit_length() - 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows that are used together. May be empty."""

    row_N: Tensor  # int64, global row numbers, ascending
    X_ND: Tensor  # float32 or float64, contiguous; or SparseRows, which do for solvers without a Gram matrix
    y_N: Tensor | None = None  # float64 targets, or int64 numbers of classes
    weight_N: Tensor | None = None  # float64, not negative; None: all 1

    def __len__(self) -> int:
        return len(self.row_N)

    def take(self, which: slice | Tensor) -> "Block":
        """The rows of a slice, or those at these places, in their order."""
        parts = {name: getattr(self, name) for name in ("row_N", "X_ND", "y_N", "weight_N")}
        return Block(**{name: None if part is None else part[which] for name, part in parts.items()})

    @property
    def device(self) -> torch.device:
        """Where all that is as long as the rows is computed."""
        return self.X_ND.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is known of a block without reading it."""

    num_rows: int
    first_row: int  # -1 without rows
    last_row: int
    dtype: torch.dtype  # of the features
    device: torch.device

    @classmethod
    def of(cls, block: Block) -> "Head":
        ends = (int(block.row_N[0]), int(block.row_N[-1])) if len(block) else (-1, -1)
        return cls(
            num_rows=len(block),
            first_row=ends[0],
            last_row=ends[1],
            dtype=block.X_ND.dtype,
            device=block.device,
        )


class StoredBlocks(Sequence[Block]):
    """Blocks that are not in memory. To get one reads it: from several threads at once, if they like."""

    at_once: int = 1  # blocks that a thread reads before it hands them over

    @property
    @abstractmethod
    def heads(self) -> Sequence[Head]: ...

    @property
    @abstractmethod
    def featureless(self) -> "StoredBlocks":
        """The same rows with no columns of features, which are not read."""


class View(StoredBlocks):
    """Some blocks of others, changed when they are read."""

    def __init__(self, base: StoredBlocks, which: Sequence[int], change: Callable[[Block], Block]) -> None:
        """`change` leaves row numbers and the dtype of the features as they are, and does not look at their values."""
        self._base, self._which, self._change = base, which, change
        self.at_once = base.at_once

    @property
    def heads(self) -> Sequence[Head]:
        return [self._base.heads[i] for i in self._which]

    @property
    def featureless(self) -> StoredBlocks:
        return View(self._base.featureless, self._which, self._change)

    def __len__(self) -> int:
        return len(self._which)

    def __getitem__(self, index: int) -> Block:
        return self._change(self._base[self._which[index]])


class Store(Protocol):
    """Where blocks are kept: a list, or a StoredBlocks to which more can be added."""

    def append(self, block: Block) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Block: ...


def heads(blocks: Sequence[Block]) -> Sequence[Head]:
    """One for each block, without reading any."""
    return blocks.heads if isinstance(blocks, StoredBlocks) else [Head.of(block) for block in blocks]


def each(blocks: Sequence[Block], change: Callable[[Block], Block]) -> Sequence[Block]:
    """The blocks changed: at once if they are in memory, else whenever they are read."""
    if isinstance(blocks, StoredBlocks):
        return View(blocks, range(len(blocks)), change)
    return [change(block) for block in blocks]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Where the blocks are, and whatever else grows with their rows."""

    new_store: Callable[[], Store]
    scratch: Callable[[int], Tensor]  # so many bytes, uint8, on the CPU


MEMORY = Room(new_store=list, scratch=lambda num_bytes: torch.empty(num_bytes, dtype=torch.uint8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """This rank's blocks in ascending order, and what all ranks know of the whole data set."""

    blocks: Sequence[Block]
    num_rows: int  # of all ranks, dropped and held-back rows not counted
    num_features: int
    num_blocks: int  # of all ranks; bounds how many partial sums are added
    classes: np.ndarray | None = None  # int64, bool or str, ascending: the labels behind the numbers in y_N
    threads: int = 1
    room: Room = MEMORY
    _pools: dict[tuple[str, int], ThreadPoolExecutor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def heads(self) -> Sequence[Head]:
        """One for each block."""
        return heads(self.blocks)

    @property
    def featureless(self) -> "Blocks":
        """For passes that look at row numbers, labels and weights only: there may be no columns of features."""
        return replace(self, blocks=self.blocks.featureless) if isinstance(self.blocks, StoredBlocks) else self

    def sample(self, step: int) -> "Blocks":
        """Each `step`-th block of the data set: the same rows for any number of ranks. Counts stay those of the data set."""
        rows = rows_per_block(self.num_features)
        return self._some([i for i, h in enumerate(self.heads) if h.num_rows and h.first_row // rows % step == 0])

    def holding(self, row_K: Tensor) -> "Blocks":
        """The blocks that may hold one of the given rows (int64, any order, on the CPU). Counts stay those of the data set."""
        ascending_K = row_K.sort().values.numpy()
        low = np.searchsorted(ascending_K, [head.first_row for head in self.heads], side="left")
        high = np.searchsorted(ascending_K, [head.last_row for head in self.heads], side="right")
        return self._some([i for i, head in enumerate(self.heads) if head.num_rows and low[i] < high[i]])

    def _some(self, which: Sequence[int]) -> "Blocks":
        if isinstance(self.blocks, StoredBlocks):
            return replace(self, blocks=View(self.blocks, which, lambda block: block))
        return replace(self, blocks=[self.blocks[i] for i in which])

    def stored(self, change: Callable[[Block], Block], num_features: int) -> "Blocks":
        """What `change` makes of the blocks, kept in a store of the same kind."""
        store = self.room.new_store()
        for block in self.map(change):
            store.append(block)
        return replace(self, blocks=store, num_features=num_features)

    def map(self, fn: Callable[[Block], T]) -> Iterator[T]:
        """`fn` of each block, in the order of blocks. Blocks run in parallel, each on one thread with one BLAS thread.

        Of stored blocks there are in memory: one that is worked on, or two for each of several threads, and READ_AHEAD more.
        """
        blocks = self._read_ahead(self.blocks) if isinstance(self.blocks, StoredBlocks) else self.blocks
        if self.threads == 1 or len(self.blocks) < 2:
            yield from map(fn, blocks)
        else:
            yield from map_in_order(self._pool("work", self.threads), fn, blocks, ahead=2 * self.threads)

    def _read_ahead(self, stored: StoredBlocks) -> Iterator[Block]:
        """By threads of their own, that the disk may be busy all the time."""
        is_large = rows_per_block(self.num_features) * self.num_features > BLOCK_VALUES
        ahead = READ_AHEAD_LARGE if is_large else READ_AHEAD
        every, step = range(len(stored)), stored.at_once
        runs = (every[first : first + step] for first in every[::step])
        return chain.from_iterable(
            map_in_order(self._pool("read", READERS), lambda run: [stored[i] for i in run], runs, ahead=ahead)
        )

    def _pool(self, purpose: str, threads: int) -> ThreadPoolExecutor:
        if (purpose, threads) not in self._pools:
            self._pools[purpose, threads] = ThreadPoolExecutor(threads, thread_name_prefix=purpose)
        return self._pools[purpose, threads]


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
