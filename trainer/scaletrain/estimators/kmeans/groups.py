"""Groups of centres that are near each other, so that most rows are compared with the centres of one group only.

A row is compared with the group of its own centre, unless those of all other groups may have become nearer (Ding et al., Yinyang
k-means, ICML 2015, with one bound for all other groups). That pays where several clusters share a blob of rows. What the scores
do not tell for certain is decided in float64, as in `assign`, so that groups have no influence on labels.

Legend: N rows, R of them of one group, M of them changed or uncertain, F of them compared with all centres, D features, K centres,
G groups, P places in the largest group, Q in one group.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scaletrain.estimators.linalg import first_largest

from .assign import SCORES, Centers, decide, doubt, places, scores, slack

LARGEST = 1.5  # times the square root of the number of centres
ROUNDS = 4  # of Lloyd's algorithm over the members of a group, to halve it
CLOSE = 0.6  # of the distance to the nearest centre of another group: at most so far is the nearest one of the own, for half of the centres
MOST_MEMBERS = 0.25  # of all centres


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """A partition of the centres."""

    group_K: Tensor  # int64
    place_K: Tensor  # int64, in the group
    members: list[Tensor]  # int64, ascending numbers of centres, for each group
    member_GP: Tensor  # int64, the same in rows; the first member is repeated where there are no more

    @classmethod
    def of(cls, C_KD: Tensor) -> "Groups":
        """Of up to LARGEST * sqrt(K) centres: halves what is larger."""
        members: list[Tensor] = []
        larger = [torch.arange(len(C_KD))]
        while larger:
            member_P = larger.pop()
            halves = _halves(member_P, C_KD) if len(member_P) > LARGEST * len(C_KD) ** 0.5 else [member_P]
            (larger if len(halves) > 1 else members).extend(halves)
        return cls.listed(members)

    @classmethod
    def where_apart(cls, C_KD: Tensor) -> "Groups | None":
        """None where rows are not likely to stay in a group: then groups cost a row more than they save."""
        if not _has_close_pairs(C_KD):
            return None
        groups = cls.of(C_KD)
        return groups if groups.are_apart(C_KD) else None

    @classmethod
    def listed(cls, members: list[Tensor]) -> "Groups":
        member_GP = torch.nn.utils.rnn.pad_sequence(members, batch_first=True, padding_value=-1)
        member_GP = torch.where(member_GP < 0, member_GP[:, :1], member_GP)
        group_K, place_K = (torch.empty(sum(map(len, members)), dtype=torch.int64) for _ in range(2))
        for g, member_P in enumerate(members):
            group_K[member_P], place_K[member_P] = g, torch.arange(len(member_P))
        return cls(group_K=group_K, place_K=place_K, members=members, member_GP=member_GP)

    def are_apart(self, C_KD: Tensor) -> bool:
        """Whether the nearest centre is of the same group, and that of another group much farther."""
        ratio_K = torch.cat([_ratio(member_P, C_KD) for member_P in self.members])
        return bool(ratio_K.median() <= CLOSE) and self.member_GP.shape[1] <= MOST_MEMBERS * len(C_KD)


def _has_close_pairs(C_KD: Tensor) -> bool:
    """Whether groups of up to LARGEST * sqrt(K) centres can be apart: a cheap look at distances, before the centres are halved."""
    others = min(len(C_KD) - 1, int(LARGEST * len(C_KD) ** 0.5))
    exact_KD = C_KD.to(torch.float64)
    ratios = []
    for C_RD in torch.split(exact_KD, 1024):
        distance_RO = torch.cdist(C_RD, exact_KD).topk(others + 1, largest=False).values[:, 1:]
        ratios.append(distance_RO[:, 0] / distance_RO[:, -1])
    return bool(torch.cat(ratios).median() <= CLOSE)


def _ratio(member_P: Tensor, C_KD: Tensor) -> Tensor:
    """Of the distance to the next centre of the same group to that to the next one of another, for each member."""
    distance_PK = torch.cdist(C_KD[member_P].to(torch.float64), C_KD.to(torch.float64))
    distance_PK[torch.arange(len(member_P)), member_P] = torch.inf
    inside_P = distance_PK[:, member_P].amin(1)
    return inside_P / distance_PK.index_fill(1, member_P, torch.inf).amin(1)


def _halves(member_P: Tensor, C_KD: Tensor) -> list[Tensor]:
    """Two groups of one, by Lloyd's algorithm from both sides of their main direction; the same one if they are all equal."""
    C_PD = C_KD[member_P].to(torch.float64)
    C_PD = C_PD - C_PD.mean(0)
    _, _, direction_DD = torch.linalg.svd(C_PD, full_matrices=False)
    is_first_P = C_PD @ direction_DD[0] > 0
    for _ in range(ROUNDS):
        if bool(is_first_P.all()) or not bool(is_first_P.any()):
            return [member_P]
        first_D, second_D = C_PD[is_first_P].mean(0), C_PD[~is_first_P].mean(0)
        is_first_P = (C_PD - first_D).square().sum(1) < (C_PD - second_D).square().sum(1)
    return [member_P[is_first_P], member_P[~is_first_P]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedCenters:
    """Centres by group, for one pass."""

    all: Centers
    groups: Groups
    parts: list[tuple[Tensor, Tensor]]  # of each group: centres (P, D), and -|c|^2 / 2 (P, 1)

    @classmethod
    def of(cls, centers: Centers, groups: Groups) -> "GroupedCenters":
        parts = [(centers.C_KD[member_P], -centers.half_K[member_P, None]) for member_P in groups.members]
        return cls(all=centers, groups=groups, parts=parts)

    @property
    def no_score(self) -> float:
        """Less than any score, but finite: for places without a centre."""
        return -torch.finfo(self.all.C_KD.dtype).max / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedAssignment:
    """Of rows to their nearest centres; ties go to the lowest number."""

    label_N: Tensor  # int64
    near_N: Tensor  # at most the distance to the second centre of the group minus that to the nearest
    far_N: Tensor  # float64: the same for the nearest centre of all other groups in place of the second


def sorted_by_group(label_N: Tensor, groups: Groups) -> Tensor:
    """The order in which rows of one group are together."""
    group_N = groups.group_K.to(torch.int16).index_select(0, label_N)  # numpy sorts these three times faster than int64
    return torch.from_numpy(np.argsort(group_N.numpy(), kind="stable"))


def assign_in_groups(
    X_ND: Tensor, norm_N: Tensor, guess_N: Tensor, far_N: Tensor, centers: GroupedCenters
) -> GroupedAssignment:
    """`assign` for rows that are sorted by the groups of their guesses.

    far_N, float64: at most the result of that name, for the centre that is guessed; where it is not positive, it is computed.
    """
    label_N, best_N, second_N = _best_two_inside(X_ND, guess_N, centers)
    doubt_N = doubt(X_ND, norm_N, centers.all.reach)
    gap_N = (best_N - second_N).sub_(doubt_N)
    near_N = slack(gap_N, best_N, second_N, norm_N, doubt_N)
    far_F = places((far_N > 0).logical_not_())
    if far_F.numel():
        outside_F = _best_outside(X_ND.index_select(0, far_F), guess_N.index_select(0, far_F), centers)
        best_F, norm_F, doubt_F = (values_N.index_select(0, far_F) for values_N in (best_N, norm_N, doubt_N))
        gap_F = (best_F - outside_F).sub_(doubt_F)
        far_N = far_N.index_copy(0, far_F, slack(gap_F, best_F, outside_F, norm_F, doubt_F).to(far_N.dtype))
        gap_N.index_copy_(0, far_F, torch.minimum(gap_F, gap_N.index_select(0, far_F)))
    uncertain_M = places((gap_N > 0).logical_not_())
    if uncertain_M.numel():
        label_N.index_copy_(0, uncertain_M, decide(X_ND.index_select(0, uncertain_M), centers.all))
        near_N.index_fill_(0, uncertain_M, 0)
        far_N = far_N.index_fill(0, uncertain_M, 0)
    return GroupedAssignment(label_N=label_N, near_N=near_N, far_N=far_N)


def _best_two_inside(X_ND: Tensor, guess_N: Tensor, centers: GroupedCenters) -> tuple[Tensor, ...]:
    """Of the group of the guess: the first best centre by computed scores, its score and that of the next."""
    groups = centers.groups
    group_N, place_1N = groups.group_K.index_select(0, guess_N), groups.place_K.index_select(0, guess_N)[None]
    score_PN = _scores_inside(X_ND, torch.bincount(group_N, minlength=len(groups.members)).tolist(), centers)
    own_N = score_PN.gather(0, place_1N)[0]
    score_PN.scatter_(0, place_1N, centers.no_score)
    rival_N = score_PN.amax(0)
    label_N, best_N, second_N = guess_N.clone(), torch.maximum(own_N, rival_N), torch.minimum(own_N, rival_N)
    changed_M = places(rival_N > own_N)
    if changed_M.numel():
        score_MP = score_PN.index_select(1, changed_M).T.contiguous()
        place_M = first_largest(score_MP)
        label_N.index_copy_(0, changed_M, groups.member_GP[group_N.index_select(0, changed_M), place_M])
        score_MP.scatter_(1, place_M[:, None], centers.no_score)
        second_M = torch.maximum(second_N.index_select(0, changed_M), score_MP.amax(1))
        second_N.index_copy_(0, changed_M, second_M)
    return label_N, best_N, second_N


def _scores_inside(X_ND: Tensor, counts: list[int], centers: GroupedCenters) -> Tensor:
    """x c - |c|^2 / 2 of each row and the centres of its group (P, N), in the dtype of X."""
    score_PN = X_ND.new_full((centers.groups.member_GP.shape[1], len(X_ND)), centers.no_score)
    columns = zip(torch.split(score_PN, counts, 1), torch.split(X_ND, counts), centers.parts, strict=True)
    for score_PR, X_RD, (C_QD, minus_half_Q1) in columns:
        if len(X_RD):
            torch.addmm(minus_half_Q1, C_QD, X_RD.T, out=score_PR[: len(C_QD)])
    return score_PN


def _best_outside(X_FD: Tensor, guess_F: Tensor, centers: GroupedCenters) -> Tensor:
    """The best score of a centre that is not in the group of the guess."""
    member_FP = centers.groups.member_GP[centers.groups.group_K[guess_F]]
    rows = max(1, SCORES // len(centers.all.C_KD))
    return torch.cat(
        [
            scores(X_RD, centers.all).scatter_(1, member_RP, centers.no_score).amax(1)
            for X_RD, member_RP in zip(torch.split(X_FD, rows), torch.split(member_FP, rows), strict=True)
        ]
    )
