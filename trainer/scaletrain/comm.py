"""Collectives between the ranks of a job: few, blocking, and exact.

Only integers are summed (`scaletrain.exact`), because integer addition gives the same bits in any order. No float sums, no
pickled objects. A collective that fails or times out raises PeerLost; the job then ends on all ranks.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from .device import Placement
from .errors import PeerLost
from .rank import Rank
from .rendezvous import Meeting

# How long the fastest rank waits for the slowest one in a step. Not a test for life: a rank that dies is noticed at once, by its
# connection, and one that is stopped within ten seconds, by `rendezvous`.
STEP_TIMEOUT = timedelta(minutes=30)
# Reading data, and what rank 0 alone does for all, takes longer on one rank than on another.
PHASE_TIMEOUT = timedelta(hours=6)
# Bytes that a rank receives when each tells its value to each other one. Up to so many, gloo's rings, which pass them on in many
# small steps, take twice the processor's time with 2 ranks and four times with 8.
SMALL = 2 << 20


class Op(Enum):
    """What `all_reduce` does. All three give the same bits in any order."""

    SUM = "sum"  # int64 only
    MAX = "max"
    MIN = "min"


class Comm(Protocol):
    """The ranks of one job. Every rank calls the same collectives in the same order.

    A collective takes a tensor on any device and returns its result on that one.
    """

    rank: int
    size: int
    device: torch.device  # where rows live, and by way of which the ranks talk

    def all_reduce(self, value: Tensor, op: Op = Op.SUM) -> Tensor:
        """A new tensor: `op` over the ranks' `value`, element by element. SUM takes int64 only."""

    def broadcast(self, value: Tensor, root: int = 0) -> Tensor:
        """A new tensor: `value` of the rank `root`. Shapes and dtypes agree on all ranks."""

    def all_gather(self, value: Tensor) -> list[Tensor]:
        """The ranks' values in the order of ranks. They may differ in the first dimension, also be empty."""

    def barrier(self) -> None:
        """Returns when all ranks are here. The one place where ranks may wait long for each other: between phases."""

    def close(self) -> None:
        """Ends the group. No collective may follow."""


class SoloComm:
    """A world of one."""

    rank = 0
    size = 1

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")

    def all_reduce(self, value: Tensor, op: Op = Op.SUM) -> Tensor:
        assert op is not Op.SUM or value.dtype == torch.int64, "float sums depend on the order; see scaletrain.exact"
        return value.clone()

    def broadcast(self, value: Tensor, root: int = 0) -> Tensor:
        return value.clone()

    def all_gather(self, value: Tensor) -> list[Tensor]:
        return [value.clone()]

    def barrier(self) -> None:
        pass

    def close(self) -> None:
        pass


class TorchComm:
    """The ranks of a job that have met, talking by gloo or nccl."""

    def __init__(self, rank: Rank, meeting: Meeting, placement: Placement) -> None:
        self.rank = rank.rank
        self.size = rank.world_size
        self.device = placement.device
        self._meeting = meeting
        if _is_loopback(rank.master_addr):
            # gloo would look for the address of the host's name, which need not be one that can be reached.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback_interface())
        with _peers_lost_in("the connection of all ranks"):
            dist.init_process_group(
                placement.backend,
                store=dist.PrefixStore("group", meeting.store),
                rank=rank.rank,
                world_size=rank.world_size,
                timeout=PHASE_TIMEOUT,
            )

    def all_reduce(self, value: Tensor, op: Op = Op.SUM) -> Tensor:
        assert op is not Op.SUM or value.dtype == torch.int64, "float sums depend on the order; see scaletrain.exact"
        if self._is_small(value):
            return COMBINE[op](self._tell_all(value, "all_reduce")).to(value.device)
        result = value.to(self.device, copy=True)
        _finish(dist.all_reduce(result, REDUCE[op], async_op=True), "all_reduce")
        return result.to(value.device)

    def broadcast(self, value: Tensor, root: int = 0) -> Tensor:
        result = value.to(self.device, copy=True)
        _finish(dist.broadcast(result, root, async_op=True), "broadcast")
        return result.to(value.device)

    def all_gather(self, value: Tensor) -> list[Tensor]:
        counts = self._gather_equal(torch.tensor([len(value)], device=self.device))
        lengths = [int(count) for count in counts]
        padded = torch.zeros((max(lengths), *value.shape[1:]), dtype=value.dtype, device=self.device)
        padded[: len(value)] = value
        parts = zip(self._gather_equal(padded), lengths, strict=True)
        return [part[:length].to(value.device) for part, length in parts]

    def barrier(self) -> None:
        here = torch.zeros(1, dtype=torch.int64, device=self.device)
        _finish(dist.all_reduce(here, async_op=True), "barrier", PHASE_TIMEOUT)

    def close(self) -> None:
        """Returns when rank 0 has come here too, however long it writes the model."""
        self._meeting.part()
        dist.destroy_process_group()

    def __deepcopy__(self, memo: object) -> "TorchComm":
        """Itself: copies of an estimator learn on the same ranks."""
        return self

    def _is_small(self, value: Tensor) -> bool:
        return self.device.type == "cpu" and 0 < value.nbytes * self.size <= SMALL

    def _tell_all(self, value: Tensor, name: str) -> Tensor:
        """The ranks' values in the order of ranks, as one tensor. They have one shape; not empty."""
        told = value.to(self.device).expand(self.size, *value.shape).contiguous()
        heard = torch.empty_like(told)
        _finish(dist.all_to_all_single(heard, told, async_op=True), name)
        return heard

    def _gather_equal(self, value: Tensor) -> list[Tensor]:
        if self._is_small(value):
            return list(self._tell_all(value, "all_gather"))
        parts = [torch.empty_like(value) for _ in range(self.size)]
        _finish(dist.all_gather(parts, value.contiguous(), async_op=True), "all_gather")
        return parts


COMBINE = {Op.SUM: lambda told: told.sum(0), Op.MAX: lambda told: told.amax(0), Op.MIN: lambda told: told.amin(0)}
REDUCE = {Op.SUM: dist.ReduceOp.SUM, Op.MAX: dist.ReduceOp.MAX, Op.MIN: dist.ReduceOp.MIN}


def _finish(work: dist.Work, name: str, timeout: timedelta = STEP_TIMEOUT) -> None:
    with _peers_lost_in(name):
        work.wait(timeout)


@contextmanager
def _peers_lost_in(what: str) -> Iterator[None]:
    """torch reports a closed connection and a time-out as RuntimeError, with the library's own words."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(f"lost a peer during {what}: {_first_sentence(str(error))}") from error


def _first_sentence(text: str) -> str:
    """Without the place in the library's source, and the advice that follows."""
    return re.sub(r"^\[\S+\] ", "", text.splitlines()[0]).partition(". ")[0]


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _loopback_interface() -> str:
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
