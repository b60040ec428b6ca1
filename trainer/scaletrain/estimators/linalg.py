"""Small dense algebra behind the fits. Runs on one rank, or inside one block: then on the block's device.

Legend: N rows, D features, K scores, G groups, C columns, A active columns, R kept directions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scaletrain.data.sparse import Shifted, SparseRows

# Directions of the scaled matrix below this share of the largest one are taken for linear dependence. In terms of the
# columns of the data it is the square root: 1e-6, as LinearRegression's `tol` in scikit-learn.
RANK_TOLERANCE = 1e-12
UNROLLED = 8  # columns
FEW = 4  # rows that are multiplied one by one
CACHED_VALUES = 1 << 19  # in float64 so many stay in a cache
MEMBERSHIPS = 1 << 22  # of rows in groups at once, on a GPU: 32 MiB of float64


def is_on_cpu(value: Tensor) -> bool:
    """Whether numpy can take it, and operations keep a fixed order by themselves."""
    return value.device.type == "cpu"


def cached_rows(num_columns: int) -> int:
    """Rows that are best added up at once: a slice of a wide block, all of one of up to 256 columns."""
    return max(1, CACHED_VALUES // num_columns)


def columns_about(X_ND: Tensor, shift_D: Tensor, dtype: torch.dtype, *, more: int = 0) -> Tensor:
    """(x - shift, 1), `more` columns of 0 to be filled, and some that make `gram` a tenth faster: products are computed 8 by 8."""
    D = len(shift_D)
    num_columns = -(-(D + 1 + more) // UNROLLED) * UNROLLED
    columns_NQ = torch.empty(len(X_ND), num_columns, dtype=dtype, device=X_ND.device)
    torch.sub(X_ND, shift_D.to(X_ND.device, dtype), out=columns_NQ[:, :D])
    columns_NQ[:, D] = 1
    columns_NQ[:, D + 1 :] = 0
    return columns_NQ


def gram(X_ND: Tensor) -> Tensor:
    """X'X, shape (D, D), in the dtype of X."""
    if not is_on_cpu(X_ND):
        return X_ND.T @ X_ND
    # numpy sees that both factors are one matrix and computes half of it (syrk); torch does not.
    values = X_ND.numpy()
    return torch.from_numpy(np.matmul(values.T, values))


def product(A_KN: Tensor, X_ND: Tensor | SparseRows | Shifted) -> Tensor:
    """A X for few rows K; on the CPU by numpy, which is twice as fast as torch then."""
    if isinstance(X_ND, SparseRows | Shifted):
        return X_ND.left(A_KN)
    if not is_on_cpu(X_ND):
        return A_KN @ X_ND
    rows_KN, columns_ND = A_KN.numpy(), X_ND.numpy()
    if 1 < len(rows_KN) <= FEW:
        # A product of two matrices copies X first; for two rows that takes three times as long as reading X twice.
        return torch.from_numpy(np.stack([row_N @ columns_ND for row_N in rows_KN]))
    return torch.from_numpy(np.matmul(rows_KN, columns_ND))


def scores(X_ND: Tensor | SparseRows | Shifted, coef_D: Tensor) -> Tensor:
    """X w, shape (N,); on the CPU by numpy, which is twice as fast as torch then."""
    if isinstance(X_ND, SparseRows | Shifted) or not is_on_cpu(X_ND):
        return X_ND @ coef_D
    return torch.from_numpy(np.matmul(X_ND.numpy(), coef_D.numpy()))


def squares_about(shift_D: Tensor, cost_N: Tensor, X_ND: Tensor | SparseRows) -> Tensor:
    """sum of cost * (x - shift)^2, shape (D,), float64, from sums about 0, so that the zeros of sparse rows stay.

    Digits cancel, which does not matter to what only scales. Sums exceed their bounds by what `moments.CANCELLED_SQUARE` says.
    """
    first_D, second_D = product(cost_N[None], X_ND)[0], product(cost_N[None], X_ND.square())[0]
    return (second_D - 2 * shift_D * first_D + shift_D**2 * cost_N.sum()).clamp_(min=0)


def first_largest(score_NK: Tensor) -> Tensor:
    """The place of the largest of each row, int64 (N,); the lowest of equals, which `argmax` promises nowhere but on the CPU."""
    if is_on_cpu(score_NK):
        return torch.from_numpy(score_NK.contiguous().numpy().argmax(1))  # three times faster than torch's
    count = score_NK.shape[1]
    is_largest_NK = score_NK == score_NK.amax(1, keepdim=True)
    return torch.where(is_largest_NK, torch.arange(count, device=score_NK.device), count - 1).amin(1)


def add_by_group(sum_GC: Tensor, group_N: Tensor, term_NC: Tensor, alpha: int = 1) -> None:
    """Adds alpha times the terms of each group's rows to the group's sums, in place and in a fixed order."""
    if is_on_cpu(sum_GC):
        sum_GC.index_add_(0, group_N, term_NC, alpha=alpha)
        return
    number_G1 = torch.arange(len(sum_GC), device=sum_GC.device)[:, None]
    rows = max(1, MEMBERSHIPS // len(sum_GC))
    for group_R, term_RC in zip(group_N.split(rows), term_NC.split(rows), strict=True):
        sum_GC.addmm_((number_G1 == group_R).to(term_RC.dtype), term_RC, alpha=alpha)


def totals_by_group(group_N: Tensor, weight_N: Tensor, count: int) -> Tensor:
    """Sums of the weights of each group's rows, float64 (count,), in a fixed order."""
    if is_on_cpu(weight_N):
        return torch.bincount(group_N, weights=weight_N, minlength=count).to(torch.float64)
    total_G1 = torch.zeros(count, 1, dtype=torch.float64, device=weight_N.device)
    add_by_group(total_G1, group_N, weight_N[:, None])
    return total_G1[:, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solver:
    """A = S R S with S diagonal and R of unit diagonal, R factored: by Cholesky, or by eigenvectors if A is singular."""

    active_D: Tensor  # bool: columns that are not all zero; the others get 0
    scale_A: Tensor  # diagonal of S for the active columns
    cholesky_AA: Tensor | None
    values_R: Tensor | None  # eigenvalues of R that are kept
    vectors_AR: Tensor | None
    null_AQ: Tensor | None  # orthonormal: what A maps to 0
    rank: int
    condition: float  # estimated, of R without its null space

    def solve(self, b_D: Tensor) -> Tensor:
        """x with A x = b; of the solutions (or least-squares solutions) the one with the smallest norm."""
        b_A = b_D[self.active_D] / self.scale_A
        if self.cholesky_AA is not None:
            x_A = torch.cholesky_solve(b_A[:, None], self.cholesky_AA)[:, 0] / self.scale_A
        else:
            x_A = self.vectors_AR @ ((self.vectors_AR.T @ b_A) / self.values_R) / self.scale_A
            x_A -= self.null_AQ @ (self.null_AQ.T @ x_A)
        x_D = torch.zeros_like(b_D)
        x_D[self.active_D] = x_A
        return x_D


def factor(A_DD: Tensor, tolerance: float = RANK_TOLERANCE) -> Solver:
    """Factors a symmetric positive semidefinite matrix (float64). Scaling first makes the units of the columns irrelevant."""
    diagonal_D = A_DD.diagonal()
    active_D = diagonal_D > 0
    scale_A = diagonal_D[active_D].sqrt()
    R_AA = A_DD[active_D][:, active_D] / scale_A[:, None] / scale_A
    cholesky_AA, failed = torch.linalg.cholesky_ex(R_AA)
    pivots_A = cholesky_AA.diagonal() ** 2
    common = {"active_D": active_D, "scale_A": scale_A}
    if not failed and bool((pivots_A > tolerance).all()):
        condition = float(pivots_A.max() / pivots_A.min()) if len(pivots_A) else 1.0
        empty = {"values_R": None, "vectors_AR": None, "null_AQ": None}
        return Solver(**common, **empty, cholesky_AA=cholesky_AA, rank=len(scale_A), condition=condition)
    values_A, vectors_AA = torch.linalg.eigh(R_AA)
    kept_A = values_A > tolerance * values_A[-1]
    null_AQ, _ = torch.linalg.qr(vectors_AA[:, ~kept_A] / scale_A[:, None])
    return Solver(
        **common,
        cholesky_AA=None,
        values_R=values_A[kept_A],
        vectors_AR=vectors_AA[:, kept_A],
        null_AQ=null_AQ,
        rank=int(kept_A.sum()),
        condition=float(values_A[-1] / values_A[kept_A][0]),
    )


def whitening(A_DD: Tensor) -> Tensor:
    """M of shape (D, R) with M'AM the identity, where R is the rank of A (symmetric, positive semidefinite, float64)."""
    solver = factor(A_DD)
    if solver.cholesky_AA is not None:
        identity_AA = torch.eye(solver.rank, dtype=torch.float64)
        white_AR = torch.linalg.solve_triangular(solver.cholesky_AA.T, identity_AA, upper=True)
    else:
        white_AR = solver.vectors_AR / solver.values_R.sqrt()
    white_DR = torch.zeros(len(A_DD), solver.rank, dtype=torch.float64)
    white_DR[solver.active_D] = white_AR / solver.scale_A[:, None]
    return white_DR
