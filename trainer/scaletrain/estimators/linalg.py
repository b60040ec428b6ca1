"""Small dense algebra behind the fits. Runs on one rank, or inside one block."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Directions of the scaled matrix below this share of the largest one are taken for linear dependence. In terms of the
# columns of the data it is the square root: 1e-6, as LinearRegression's `tol` in scikit-learn.
RANK_TOLERANCE = 1e-12


def gram(X_ND: Tensor) -> Tensor:
    """X'X, shape (D, D), in the dtype of X."""
    # numpy sees that both factors are one matrix and computes half of it (syrk); torch does not.
    values = X_ND.numpy()
    return torch.from_numpy(np.matmul(values.T, values))


def product(A_KN: Tensor, X_ND: Tensor) -> Tensor:
    """A X for few rows K, by numpy: twice as fast as torch then."""
    return torch.from_numpy(np.matmul(A_KN.numpy(), X_ND.numpy()))


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
