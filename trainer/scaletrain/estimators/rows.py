"""The labels of this rank's rows in Lloyd's algorithm, and which of them can have changed.

Each row has a deadline on the way that centres go. Its label was decided with a slack (see `assign`), and stays while the own
centre and any other one have together gone less than that. The way of cluster k is the sum over iterations of

    |shift of k| + max over j != k of |shift of j|

and a row of cluster k is open once that sum has reached the row's deadline: slack + the sum when it was decided. Nothing in here
has an influence on the labels: they are those of a pass over all rows.

Legend: N rows of a block, O of them open, M changed their cluster, D features, K clusters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.data.blocks import Block

from .assign import Centers, argmax_of_few, assign, has_slack, norms
from .nearest import Points, RowState

MANY_OPEN = 0.7  # share of a block: beyond, all rows are assigned, because that costs less than to pick the open ones
ROUND_UP = 1 + 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The rows of a block that changed their cluster: places in the block, and labels (-1: none)."""

    row_M: Tensor
    old_M: Tensor
    new_M: Tensor


class Rows:
    """20 bytes for each row of float32 features, 24 for float64."""

    def __init__(self, data: Points, num_clusters: int) -> None:
        self._data = data
        self.label = RowState(data.blocks, -1, torch.int64)
        self._deadline = RowState(data.blocks, -torch.inf, torch.float64)
        self._norm = RowState(data.blocks, 0, data.dtype)
        self._way_K = torch.zeros(num_clusters, dtype=torch.float64)

    def travel(self, old_KD: Tensor, new_KD: Tensor) -> None:
        """The centres have moved since the last pass."""
        shift_K = (new_KD.to(torch.float64) - old_KD.to(torch.float64)).square().sum(1).sqrt() * ROUND_UP
        self._way_K = self._way_K + shift_K + _largest_other(shift_K)

    def assign_all(self, C_KD: Tensor) -> None:
        """Decides the labels of all rows, in one pass without a collective."""
        step = self.step(C_KD)
        for _ in self._data.blocks.map(step):
            pass

    def step(self, C_KD: Tensor) -> Callable[[Block], Moved]:
        """What decides the labels of a block's open rows; for each block once, on any thread."""
        centers = Centers.of(C_KD.to(self._data.comm.device))
        way_K = self._way_K.to(self._data.comm.device)
        if not has_slack(centers):
            return lambda block: self._assign_plainly(block, centers)
        return lambda block: self._assign(block, centers, way_K)

    def _assign_plainly(self, block: Block, centers: Centers) -> Moved:
        """Of few centres: all rows, without bounds."""
        label_N, found_N = self.label.of(block), argmax_of_few(self._data.of(block), centers)
        row_M = torch.nonzero(found_N != label_N)[:, 0]
        moved = Moved(row_M=row_M, old_M=label_N.index_select(0, row_M), new_M=found_N.index_select(0, row_M))
        label_N.copy_(found_N)
        return moved

    def _assign(self, block: Block, centers: Centers, way_K: Tensor) -> Moved:
        label_N, deadline_N, norm_N = (state.of(block) for state in (self.label, self._deadline, self._norm))
        is_new = bool((label_N[:1] < 0).any())
        row_O = None if is_new else _open(label_N, deadline_N, way_K)
        X_OD = self._data.of(block, row_O)
        if is_new:
            norm_N.copy_(norms(X_OD))
        old_O, norm_O = (values if row_O is None else values.index_select(0, row_O) for values in (label_N, norm_N))
        found = assign(X_OD, norm_O, centers, None if is_new else old_O)
        changed_M = torch.nonzero(found.label_N != old_O)[:, 0]
        old_M, new_M = old_O.index_select(0, changed_M), found.label_N.index_select(0, changed_M)
        deadline_O = found.slack_N + way_K.index_select(0, found.label_N)
        if row_O is None:
            deadline_N.copy_(deadline_O)
        else:
            deadline_N.index_copy_(0, row_O, deadline_O)
        row_M = changed_M if row_O is None else row_O.index_select(0, changed_M)
        label_N.index_copy_(0, row_M, new_M)
        return Moved(row_M=row_M, old_M=old_M, new_M=new_M)


def _open(label_N: Tensor, deadline_N: Tensor, way_K: Tensor) -> Tensor | None:
    """The rows to assign; None if these are all or almost all. A deadline of NaN is over."""
    is_decided_N = deadline_N > (way_K * ROUND_UP).index_select(0, label_N)
    row_O = torch.nonzero(is_decided_N.logical_not_())[:, 0]
    return row_O if len(row_O) <= MANY_OPEN * len(label_N) else None


def _largest_other(shift_K: Tensor) -> Tensor:
    """For each cluster the largest shift of another one."""
    if len(shift_K) == 1:
        return torch.zeros_like(shift_K)
    (largest, second), (owner, _) = shift_K.topk(2)
    other_K = largest.expand(len(shift_K)).clone()
    other_K[owner] = second
    return other_K
