"""The nearest centre of each row, and how far it is from changing.

For more than a few centres: all scores x c - |c|^2 / 2 come from one matrix product: the nearest centre has the largest. Their rounding is bounded, and a row
whose best two are closer than the bound is decided in float64, at last by the squared distance of the row itself. So a label is
a function of the row and the centres alone: not of the slice of rows it was computed in, nor of BLAS. For few centres the best computed score decides.

The bound. With n = D + 8 and unit roundoff u, g = n u / (1 - n u), whatever the order of the additions and with or without
fused multiplication (Higham, Accuracy and Stability of Numerical Algorithms, 3.1, and Cauchy and Schwarz):

    |computed score - score| <= g (|x| |c| + |c|^2 / 2) <= e / 2,   e = g (|x| + r)^2,   r the largest |c|

so a computed gap above e between the best score and the second one makes the order certain, and strict. D + 2 roundings are
there; the other 6 u of n cover those of the norms and of e itself. The squared distances that decide the other rows are computed
in float64, with an error of at most 2 e', where e' is e of float64: above e + e' both ways give the same order.

The slack. The gap of two scores is half the difference of the squared distances d1, d2 to the best centre and the second, hence

    d2 - d1 = 2 gap / (d1 + d2) >= gap / sqrt((d1^2 + d2^2) / 2) = gap / sqrt(|x|^2 - best - second)

where the root is taken of 4 e more, for the rounding of |x|^2, of both scores and of the sum. While the shifts of the own centre
and of any other one add up to less, the label cannot change (Hamerly, Making k-means even faster, SDM 2010, with one number for
a row). Rows that are decided in float64 have a slack of at most 0.

Legend: N rows, R of them in a slice, M doubtful or changed ones, D features, K centres, P pairs of a row and a centre.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scaletrain.estimators.linalg import first_largest, is_on_cpu

ROUND_UP = 1 + 1e-6  # far above the rounding of a few operations in float32
SCORES = 1 << 21  # of a slice of rows: 8 MiB of float32
FEW_VALUES = 1 << 16  # differences of doubtful rows and centres: to take all of so few costs less than to choose
MANY_CONTENDERS = 8  # centres for each doubtful row; beyond, their number is reduced in float64 first
FEW_CENTERS = 32  # measured: up to so many, bounds cost more than they save; at most 127, because numbers are int8


@dataclass(frozen=True, slots=True, kw_only=True)
class Centers:
    """Centres, and what every row needs to know of them."""

    C_KD: Tensor
    columns_DK: Tensor  # the same by columns, contiguous
    half_K: Tensor  # |c|^2 / 2
    reach: float  # the largest |c|, rounded up
    exact_KD: Tensor  # C_KD in float64
    exact_half_K: Tensor  # |c|^2 / 2 in float64

    @classmethod
    def of(cls, C_KD: Tensor) -> "Centers":
        exact_KD = C_KD.to(torch.float64)
        half_K = (exact_KD * exact_KD).sum(1) / 2
        return cls(
            C_KD=C_KD,
            columns_DK=C_KD.T.contiguous(),
            half_K=half_K.to(C_KD.dtype),
            reach=float((2 * half_K.max()).sqrt()) * ROUND_UP,
            exact_KD=exact_KD,
            exact_half_K=half_K,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Of rows to their nearest centres; ties go to the lowest number."""

    label_N: Tensor  # int64
    slack_N: Tensor  # float64: at most the distance to the second nearest centre minus that to the nearest


def norms(X_ND: Tensor) -> Tensor:
    """|x| of each row, in the dtype of X."""
    return torch.linalg.vector_norm(X_ND, dim=1)


def nearest(X_ND: Tensor, C_KD: Tensor) -> Tensor:
    """Numbers of the nearest centres, int64 (N,). Ties go to the lowest number. Both in one dtype and on one device."""
    centers = Centers.of(C_KD)
    return assign(X_ND, norms(X_ND), centers).label_N if has_slack(centers) else argmax_of_few(X_ND, centers)


def has_slack(centers: Centers) -> bool:
    """Whether to use `assign`, or `argmax_of_few`, because to look at all rows costs less than to keep their slacks."""
    return len(centers.C_KD) > FEW_CENTERS or not is_on_cpu(centers.C_KD)


def assign(X_ND: Tensor, norm_N: Tensor, centers: Centers, guess_N: Tensor | None = None) -> Assignment:
    """Finds the nearest centre of each row, sooner where it is the guessed one. `norm_N` as `norms` gives them."""
    label_N, best_N, second_N = _best_two(X_ND, centers, guess_N)
    doubt_N = doubt(X_ND, norm_N, centers.reach)
    gap_N = (best_N - second_N).sub_(doubt_N)
    doubtful_M = places((gap_N > 0).logical_not_())  # also where a score is too large for its dtype
    if doubtful_M.numel():
        label_N.index_copy_(0, doubtful_M, decide(X_ND.index_select(0, doubtful_M), centers))
    return Assignment(label_N=label_N, slack_N=slack(gap_N, best_N, second_N, norm_N, doubt_N))


def places(is_wanted_N: Tensor) -> Tensor:
    """Ascending places of what is true, int64; on the CPU by numpy, which is four times faster than torch."""
    if is_on_cpu(is_wanted_N):
        return torch.from_numpy(is_wanted_N.numpy().nonzero()[0])
    return torch.nonzero(is_wanted_N)[:, 0]


def slack(gap_N: Tensor, best_N: Tensor, second_N: Tensor, norm_N: Tensor, doubt_N: Tensor) -> Tensor:
    """By the formula of the module's docstring."""
    square_N = torch.addcmul(4 * doubt_N, norm_N, norm_N).sub_(best_N).sub_(second_N)
    return gap_N / square_N.sqrt_().mul_(ROUND_UP)


def doubt(X_ND: Tensor, norm_N: Tensor, reach: float) -> Tensor:
    """e + e' of the module's docstring, and more than the terms of a score can lose to underflow; infinite where one can overflow,
    because the square is taken before it is scaled."""
    growth = _growth(X_ND.shape[1], X_ND.dtype) + _growth(X_ND.shape[1], torch.float64)
    return (norm_N + reach).square_().mul_(growth).add_(X_ND.shape[1] * torch.finfo(X_ND.dtype).tiny)


def _growth(num_features: int, dtype: torch.dtype) -> float:
    """g of the module's docstring."""
    nu = (num_features + 8) * torch.finfo(dtype).eps / 2
    return nu / (1 - nu)


def _best_two(X_ND: Tensor, centers: Centers, guess_N: Tensor | None) -> tuple[Tensor, ...]:
    """The first best centre by computed scores, its score and that of the next."""
    rows = max(1, SCORES // len(centers.C_KD))
    if len(X_ND) <= rows:
        return _best_two_of_slice(X_ND, centers, guess_N)
    guesses = [None] * -(-len(X_ND) // rows) if guess_N is None else guess_N.split(rows)
    slices = [
        _best_two_of_slice(X_RD, centers, guess_R) for X_RD, guess_R in zip(X_ND.split(rows), guesses, strict=True)
    ]
    return tuple(torch.cat(parts) for parts in zip(*slices, strict=True))


def _best_two_of_slice(X_RD: Tensor, centers: Centers, guess_R: Tensor | None) -> tuple[Tensor, ...]:
    """Labels are sought only where another centre beats the guessed one."""
    score_RK = scores(X_RD, centers)
    if guess_R is None:
        guess_R = first_largest(score_RK)
    own_R, rival_R = _take(score_RK, guess_R), score_RK.amax(1)
    label_R, best_R, second_R = guess_R.clone(), torch.maximum(own_R, rival_R), torch.minimum(own_R, rival_R)
    changed_M = places(rival_R > own_R)
    if changed_M.numel():
        score_MK = score_RK.index_select(0, changed_M)
        label_M = first_largest(score_MK)
        _take(score_MK, label_M)
        label_R.index_copy_(0, changed_M, label_M)
        second_M = torch.maximum(second_R.index_select(0, changed_M), score_MK.amax(1))
        second_R.index_copy_(0, changed_M, second_M)
    return label_R, best_R, second_R


def _take(score_RK: Tensor, place_R: Tensor) -> Tensor:
    """The scores at these places, which are lost: -inf is left there."""
    place_R1 = place_R[:, None]
    taken_R1 = score_RK.gather(1, place_R1)
    score_RK.scatter_(1, place_R1, -torch.inf)
    return taken_R1[:, 0]


def scores(X_RD: Tensor, centers: Centers) -> Tensor:
    """x c - |c|^2 / 2 of each row and centre, in the dtype of X; on the CPU by numpy, whose product of such shapes is faster."""
    columns_DK, half_K = centers.columns_DK, centers.half_K
    if not is_on_cpu(X_RD):
        return torch.addmm(-half_K, X_RD, columns_DK)
    score_RK = np.matmul(X_RD.numpy(), columns_DK.numpy())
    return torch.from_numpy(score_RK).sub_(half_K)


def argmax_of_few(X_ND: Tensor, centers: Centers) -> Tensor:
    """By computed scores, centre by centre over all rows: no branch depends on the data, where the largest of a short row
    mispredicts most. The product is that of the whole block, so the labels are a function of the block and the centres."""
    K = len(centers.C_KD)
    score_NK = np.matmul(X_ND.numpy(), centers.columns_DK.numpy())
    score_KN = np.subtract(score_NK.T, centers.half_K.numpy()[:, None], order="C")
    rank_KN = (score_KN == score_KN.max(0)).view(np.int8)  # the lowest number of the best has the highest rank
    rank_KN *= np.arange(K, 0, -1, dtype=np.int8)[:, None]
    return torch.from_numpy(np.subtract(K, rank_KN.max(0, initial=1), dtype=np.int64))


def decide(X_MD: Tensor, centers: Centers) -> Tensor:
    """Labels of doubtful rows: the first centre with the least squared distance, computed in float64 pair by pair."""
    if len(X_MD) * centers.C_KD.numel() <= FEW_VALUES:
        difference_MKD = X_MD.to(torch.float64)[:, None] - centers.exact_KD
        return first_largest(-_squared_lengths(difference_MKD.flatten(0, 1)).view(len(X_MD), -1))
    rows = max(1, SCORES // len(centers.C_KD))
    return torch.cat([_decide_slice(X_RD, centers) for X_RD in X_MD.split(rows)])


def _decide_slice(X_RD: Tensor, centers: Centers) -> Tensor:
    """Distances are computed to the centres only that a product cannot tell apart from the best."""
    pair_P2 = _contenders(scores(X_RD, centers), doubt(X_RD, norms(X_RD), centers.reach))
    X_RD, C_KD = X_RD.to(torch.float64), centers.exact_KD
    if len(pair_P2) > MANY_CONTENDERS * len(X_RD):
        # A centre that equals one of a lower number is never the nearest: without them there are few.
        half_K = centers.exact_half_K.masked_fill(_is_repeated(C_KD), torch.inf)
        score_RK = torch.addmm(-half_K, X_RD, C_KD.T)
        pair_P2 = _contenders(score_RK, doubt(X_RD, norms(X_RD), centers.reach))
    row_P, center_P = pair_P2.unbind(1)
    square_RK = X_RD.new_full((len(X_RD), len(C_KD)), torch.inf)
    square_RK[row_P, center_P] = _squared_lengths(X_RD.index_select(0, row_P) - C_KD.index_select(0, center_P))
    return first_largest(-square_RK)


def _squared_lengths(difference_PD: Tensor) -> Tensor:
    """Changes the differences in place."""
    return difference_PD.square_().sum(1)


def _contenders(score_RK: Tensor, doubt_R: Tensor) -> Tensor:
    """Pairs (P, 2) of a row and a centre that may be its nearest: by computed scores no other one is certainly nearer."""
    return torch.nonzero(~(score_RK < (score_RK.amax(1) - doubt_R)[:, None]))


def _is_repeated(C_KD: Tensor) -> Tensor:
    """Whether a centre equals one of a lower number."""
    _, group_K = torch.unique(C_KD, dim=0, return_inverse=True)
    number_K = torch.arange(len(C_KD), device=C_KD.device)
    return ((group_K[:, None] == group_K) & (number_K < number_K[:, None])).any(1)
