"""Several ranks in one process: threads with a real Comm between them, for tests that need ranks but no processes."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from scaletrain.comm import Comm, Op, SoloComm

T = TypeVar("T")
REDUCE = {
    Op.SUM: lambda values: values.sum(0),
    Op.MAX: lambda values: values.amax(0),
    Op.MIN: lambda values: values.amin(0),
}


class ThreadComm:
    """A Comm between threads. A rank that fails breaks the barrier, so that the others fail too."""

    device = torch.device("cpu")

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, slots: list[Tensor | None]) -> None:
        self.rank, self.size = rank, size
        self._barrier, self._slots = barrier, slots

    def all_gather(self, value: Tensor) -> list[Tensor]:
        self._slots[self.rank] = value.clone()
        self._barrier.wait()
        values = [slot.clone() for slot in self._slots if slot is not None]
        self._barrier.wait()
        return values

    def all_reduce(self, value: Tensor, op: Op = Op.SUM) -> Tensor:
        assert op is not Op.SUM or value.dtype == torch.int64
        return REDUCE[op](torch.stack(self.all_gather(value)))

    def broadcast(self, value: Tensor, root: int = 0) -> Tensor:
        return self.all_gather(value)[root]

    def barrier(self) -> None:
        self._barrier.wait()

    def close(self) -> None:
        pass


def on_ranks(size: int, act: Callable[[Comm], T]) -> list[T]:
    """What `act` returns on each of `size` ranks. Raises what the first failing rank raised itself."""
    if size == 1:
        return [act(SoloComm())]
    barrier, slots = threading.Barrier(size, timeout=30), [None] * size

    def run(rank: int) -> T:
        try:
            return act(ThreadComm(rank, size, barrier, slots))
        except Exception:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run, rank) for rank in range(size)]
    errors = [future.exception() for future in futures]
    own = [error for error in errors if error and not isinstance(error, threading.BrokenBarrierError)]
    if own:
        raise own[0]
    return [future.result() for future in futures]
