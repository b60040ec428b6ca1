"""Blocks from arrays, ranks as threads, and fits in one line."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from scaletrain.comm import Comm, Op, SoloComm
from scaletrain.data.blocks import Blocks
from scaletrain.data.in_memory import Rows, cut

T = TypeVar("T")


def make_blocks(
    X: np.ndarray, y: np.ndarray | None = None, weight: np.ndarray | None = None, *, rows: int = 64, first_row: int = 0
) -> Blocks:
    """The rows of X in blocks of `rows`."""
    weight_N = None if weight is None else weight.astype(np.float64)
    blocks = list(cut(Rows(X_ND=X, y_N=y, weight_N=weight_N), rows, first_row=first_row))
    return Blocks(blocks=blocks, num_rows=len(X), num_features=X.shape[1], num_blocks=len(blocks))


def quiet(step: int, **_: Any) -> None:
    """Progress that nobody watches."""


def fit(module: Any, params: Any, blocks: Blocks, *, comm: Comm | None = None, seed: int = 0) -> Any:
    return module.fit(comm or SoloComm(), blocks, params, seed=seed, progress=quiet)


class ThreadComm:
    """One rank of a world whose ranks are threads: real collectives over shared memory, without processes."""

    device = torch.device("cpu")

    def __init__(self, rank: int, size: int, slots: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size = rank, size
        self._slots, self._barrier = slots, barrier

    def all_reduce(self, value: Tensor, op: Op = Op.SUM) -> Tensor:
        assert op is not Op.SUM or value.dtype == torch.int64
        # Ranks in the reverse order: a result that depends on the order shows.
        stacked = torch.stack(self._exchange(value)[::-1])
        reduce = {Op.SUM: lambda x: x.sum(0), Op.MAX: lambda x: x.amax(0), Op.MIN: lambda x: x.amin(0)}
        return reduce[op](stacked)

    def broadcast(self, value: Tensor, root: int = 0) -> Tensor:
        values = self._exchange(value)
        assert values[root].shape == value.shape
        assert values[root].dtype == value.dtype
        return values[root].clone()

    def all_gather(self, value: Tensor) -> list[Tensor]:
        return [part.clone() for part in self._exchange(value)]

    def barrier(self) -> None:
        self._barrier.wait()

    def close(self) -> None:
        self._barrier.abort()

    def _exchange(self, value: Tensor) -> list[Tensor]:
        self._slots[self.rank] = value
        self._barrier.wait()
        values = list(self._slots)
        self._barrier.wait()
        return values


def on_ranks(
    size: int, blocks: Blocks, work: Callable[[Comm, Blocks], T], *, order: list[int] | None = None
) -> list[T]:
    """`work(comm, blocks of the rank)` on each of `size` ranks, by rank; `order`: the owner of each block (default: ranges)."""
    num = len(blocks.blocks)
    owner = order or [next(r for r in range(size) if num * r // size <= b < num * (r + 1) // size) for b in range(num)]

    def mine(comm: Comm) -> Blocks:
        own = [block for block, rank in zip(blocks.blocks, owner, strict=True) if rank == comm.rank]
        return replace(blocks, blocks=own, _pools={})

    return as_ranks(size, lambda comm: work(comm, mine(comm)))


def as_ranks(size: int, work: Callable[[Comm], T]) -> list[T]:
    """`work(comm)` on each of `size` ranks, by rank."""
    slots, barrier = [None] * size, threading.Barrier(size, timeout=20)

    def rank(number: int) -> T:
        try:
            return work(ThreadComm(number, size, slots, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return [future.result() for future in [pool.submit(rank, number) for number in range(size)]]
