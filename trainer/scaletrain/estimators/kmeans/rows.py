"""The labels of this rank's rows in Lloyd's algorithm, and which of them can have changed.

Each row has two deadlines on the way that centres go. Its label was decided with a slack (see `assign`), and stays while the own
centre and any other one have together gone less than that. The way of cluster k is the sum over iterations of

    |shift of k| + max over j != k of |shift of j|

and a row of cluster k is open once that sum has reached the row's deadline: slack + the sum when it was decided. One of the
deadlines is for the j of k's group of centres, the other one for all other j; at first all centres are one group. Nothing in here
has an influence on the labels: they are those of a pass over all rows.

Legend: N rows of a block, O of them open, M changed their cluster, D features, K clusters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.data.blocks import Block
from scaletrain.estimators.linalg import is_on_cpu

from .assign import Centers, argmax_of_few, assign, has_slack, norms, places
from .groups import GroupedCenters, Groups, assign_in_groups, sorted_by_group
from .nearest import Points, RowState

GROUPED_AFTER = 2  # passes: first centres are single rows, which tell little of what will be near
MANY_OPEN = 0.7  # share of a block: beyond, all rows are assigned, because that costs less than to pick the open ones
MANY_INSIDE = 0.2  # share of a block that need not be compared with other groups: below, to sort by groups does not pay
ROUND_UP = 1 + 1e-9
# A deadline in float32 is never later than the one in float64, whose smallest differences from 0 and largest values it cannot hold.
ROUND_DOWN, NOTHING, LATEST = 1 - 1e-6, 1e-30, 3e38


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The rows of a block that changed their cluster: ascending places in the block, and labels (-1: none)."""

    row_M: Tensor
    old_M: Tensor
    new_M: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """Of the rows of a block, changed in place."""

    label_N: Tensor  # int64
    near_N: Tensor  # float32: deadlines
    far_N: Tensor
    norm_N: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """What all blocks need to know."""

    centers: Centers
    near_way_K: Tensor
    far_way_K: Tensor
    grouped: GroupedCenters | None
    is_first_grouped: bool


class Rows:
    """20 bytes for each row of float32 features, 24 for float64."""

    def __init__(self, data: Points, num_clusters: int) -> None:
        self._data = data
        self.label = RowState(data.blocks, -1, torch.int64)
        self._near, self._far = (RowState(data.blocks, -torch.inf, torch.float32) for _ in range(2))
        self._norm = RowState(data.blocks, 0, data.dtype)
        self._near_way_K = torch.zeros(num_clusters, dtype=torch.float64)
        self._far_way_K = self._near_way_K
        self._groups: Groups | None = None
        self._num_passes = 0

    def travel(self, old_KD: Tensor, new_KD: Tensor) -> None:
        """The centres have moved since the last pass."""
        shift_K = (new_KD.to(torch.float64) - old_KD.to(torch.float64)).square().sum(1).sqrt() * ROUND_UP
        if self._groups is None:
            self._near_way_K = self._near_way_K + shift_K + _largest_other(shift_K)
            return
        self._near_way_K = self._near_way_K + shift_K + _largest_inside(shift_K, self._groups)
        self._far_way_K = self._far_way_K + shift_K + _largest_outside(shift_K, self._groups)

    def assign_all(self, C_KD: Tensor) -> None:
        """Decides the labels of all rows, in one pass without a collective."""
        step = self.step(C_KD)
        for _ in self._data.blocks.map(step):
            pass

    def step(self, C_KD: Tensor) -> Callable[[Block], Moved]:
        """What decides the labels of a block's open rows; for each block once, on any thread."""
        centers = Centers.of(C_KD.to(self._data.comm.device))
        if not has_slack(centers):
            return lambda block: self._assign_plainly(block, centers)
        is_first_grouped = self._num_passes == GROUPED_AFTER and is_on_cpu(centers.C_KD) and self._group(C_KD)
        self._num_passes += 1
        now = _Pass(
            centers=centers,
            near_way_K=self._near_way_K.to(self._data.comm.device),
            far_way_K=self._far_way_K.to(self._data.comm.device),
            grouped=None if self._groups is None else GroupedCenters.of(centers, self._groups),
            is_first_grouped=is_first_grouped,
        )
        return lambda block: self._assign(block, now)

    def _group(self, C_KD: Tensor) -> bool:
        """Whether there are two deadlines from now on; both are what the one has been."""
        self._groups, self._far_way_K = Groups.where_apart(C_KD), self._near_way_K
        return self._groups is not None

    def _assign_plainly(self, block: Block, centers: Centers) -> Moved:
        """Of few centres: all rows, without bounds."""
        label_N, found_N = self.label.of(block), argmax_of_few(self._data.of(block), centers)
        row_M = places(found_N != label_N)
        moved = Moved(row_M=row_M, old_M=label_N.index_select(0, row_M), new_M=found_N.index_select(0, row_M))
        label_N.copy_(found_N)
        return moved

    def _assign(self, block: Block, now: _Pass) -> Moved:
        """Of many centres: the open rows. A deadline of NaN is over."""
        names = ("label", "_near", "_far", "_norm")
        label_N, near_N, far_N, norm_N = (getattr(self, name).of(block) for name in names)
        state = _State(label_N=label_N, near_N=near_N, far_N=far_N, norm_N=norm_N)
        if bool((label_N[:1] < 0).any()):
            return self._assign_new(block, state, now)
        if now.is_first_grouped:
            far_N.copy_(near_N)
        left_N = near_N - _way(now.near_way_K, label_N)
        if now.grouped is None:
            return self._compare_with_all(block, state, now, places(~(left_N > 0)))
        far_left_N = far_N - _way(now.far_way_K, label_N)
        is_far_N = ~(far_left_N > 0)
        row_O = places(~(left_N > 0) | is_far_N)
        num_inside = len(row_O) - int(is_far_N.sum())
        if now.is_first_grouped or num_inside > MANY_INSIDE * len(label_N):
            return self._compare_by_groups(block, state, now, row_O)
        return self._compare_with_all(block, state, now, row_O)

    def _assign_new(self, block: Block, state: _State, now: _Pass) -> Moved:
        """All rows, none of which has a label."""
        X_ND = self._data.of(block)
        state.norm_N.copy_(norms(X_ND))
        found = assign(X_ND, state.norm_N, now.centers)
        return _update(state, None, found.label_N, (found.slack_N, found.slack_N), now)

    def _compare_with_all(self, block: Block, state: _State, now: _Pass, row_O: Tensor) -> Moved:
        some_O = row_O if len(row_O) <= MANY_OPEN * len(state.label_N) else None
        old_O, norm_O = _take(state.label_N, some_O), _take(state.norm_N, some_O)
        found = assign(self._data.of(block, some_O), norm_O, now.centers, old_O)
        return _update(state, some_O, found.label_N, (found.slack_N, found.slack_N), now)

    def _compare_by_groups(self, block: Block, state: _State, now: _Pass, row_O: Tensor) -> Moved:
        assert now.grouped is not None
        row_O = row_O.index_select(0, sorted_by_group(state.label_N.index_select(0, row_O), now.grouped.groups))
        old_O, norm_O, far_O = (_take(values_N, row_O) for values_N in (state.label_N, state.norm_N, state.far_N))
        left_O = far_O - _way(now.far_way_K, old_O)
        if now.is_first_grouped:
            left_O = torch.zeros_like(left_O)
        found = assign_in_groups(self._data.of(block, row_O), norm_O, old_O, left_O, now.grouped)
        return _update(state, row_O, found.label_N, (found.near_N, found.far_N), now)


def _update(state: _State, row_O: Tensor | None, new_O: Tensor, slacks: tuple[Tensor, Tensor], now: _Pass) -> Moved:
    """Writes the labels and deadlines of rows in any order; None: of all."""
    near_O, far_O = slacks
    old_O = _take(state.label_N, row_O)
    changed_M = places(new_O != old_O)
    row_M = changed_M if row_O is None else row_O.index_select(0, changed_M)
    if row_O is not None:
        row_M, order_M = row_M.sort()
        changed_M = changed_M.index_select(0, order_M)
    moved = Moved(row_M=row_M, old_M=old_O.index_select(0, changed_M), new_M=new_O.index_select(0, changed_M))
    state.label_N.index_copy_(0, row_M, moved.new_M)
    _put(state.near_N, row_O, _deadline(near_O, now.near_way_K, new_O))
    if now.grouped is not None:
        _put(state.far_N, row_O, _deadline(far_O, now.far_way_K, new_O))
    return moved


def _deadline(slack_O: Tensor, way_K: Tensor, label_O: Tensor) -> Tensor:
    """Rounded down to float32."""
    deadline_O = way_K.index_select(0, label_O).add_(slack_O)
    return deadline_O.mul_(ROUND_DOWN).sub_(NOTHING).clamp_(max=LATEST).to(torch.float32)


def _way(way_K: Tensor, label_N: Tensor) -> Tensor:
    """That of each row's cluster, rounded up."""
    return (way_K * ROUND_UP).index_select(0, label_N)


def _take(value_N: Tensor, row_O: Tensor | None) -> Tensor:
    return value_N if row_O is None else value_N.index_select(0, row_O)


def _put(value_N: Tensor, row_O: Tensor | None, value_O: Tensor) -> None:
    if row_O is None:
        value_N.copy_(value_O)
    else:
        value_N.index_copy_(0, row_O, value_O)


def _largest_other(shift_K: Tensor) -> Tensor:
    """For each cluster the largest shift of another one."""
    if len(shift_K) == 1:
        return torch.zeros_like(shift_K)
    (largest, second), (owner, _) = shift_K.topk(2)
    other_K = largest.expand(len(shift_K)).clone()
    other_K[owner] = second
    return other_K


def _largest_inside(shift_K: Tensor, groups: Groups) -> Tensor:
    """For each cluster the largest shift of another one of its group."""
    other_K = torch.empty_like(shift_K)
    for member_P in groups.members:
        other_K[member_P] = _largest_other(shift_K[member_P])
    return other_K


def _largest_outside(shift_K: Tensor, groups: Groups) -> Tensor:
    """For each cluster the largest shift of one that is not of its group."""
    largest_G = torch.stack([shift_K[member_P].max() for member_P in groups.members])
    return _largest_other(largest_G).index_select(0, groups.group_K)
