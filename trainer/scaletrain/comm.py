"""Collectives between the ranks of a job: few, blocking, and exact.

Only integers are summed (`scaletrain.exact`), because integer addition gives the same bits in any order. No float sums, no
pickled objects. A collective that fails or times out raises; the job then ends on all ranks.
"""

from enum import Enum
from typing import Protocol

import torch
from torch import Tensor


class Op(Enum):
    """What `all_reduce` does. All three give the same bits in any order."""

    SUM = "sum"  # int64 only
    MAX = "max"
    MIN = "min"


class Comm(Protocol):
    """The ranks of one job. Every rank calls the same collectives in the same order."""

    rank: int
    size: int
    device: torch.device  # where tensors given to collectives live

    def all_reduce(self, value: Tensor, op: Op = Op.SUM) -> Tensor:
        """A new tensor: `op` over the ranks' `value`, element by element. SUM takes int64 only."""

    def broadcast(self, value: Tensor, root: int = 0) -> Tensor:
        """A new tensor: `value` of the rank `root`. Shapes and dtypes agree on all ranks."""

    def all_gather(self, value: Tensor) -> list[Tensor]:
        """The ranks' values in the order of ranks. They may differ in the first dimension, also be empty."""

    def barrier(self) -> None:
        """Returns when all ranks are here."""

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
