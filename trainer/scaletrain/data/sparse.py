"""Rows of which only the values that are not zero are kept, where features are too many for a matrix of them.

They stand in for the features `X_ND` of a table or block, with the few operations that solvers without a Gram matrix need. There
is no other access to the values: what would fill the zeros, such as centring, has no function here.

Legend: N rows, D features, K rows of factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Compressed rows (CSR) of finite float64 values on the CPU, indices ascending in each row. Never changed in place.

    Sums run over the values in the order of rows and indices, in one thread: the same bits everywhere.
    """

    rows: "csr_array"
    dtype: ClassVar[torch.dtype] = torch.float64
    device: ClassVar[torch.device] = torch.device("cpu")

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.shape

    def __getitem__(self, which: slice | np.ndarray) -> "SparseRows":
        """The rows of a slice or a mask."""
        return SparseRows(self.rows[which])

    def to(self, dtype: torch.dtype) -> "SparseRows":
        assert dtype is self.dtype
        return self

    def __matmul__(self, factor: Tensor) -> Tensor:
        """X times a vector (D,) or matrix (D, K)."""
        return torch.from_numpy(self.rows @ factor.numpy())

    def left(self, A_KN: Tensor) -> Tensor:
        """A X, shape (K, D)."""
        return torch.from_numpy(np.ascontiguousarray((self.rows.T @ A_KN.numpy().T).T))

    def square(self) -> "SparseRows":
        """The squares of the values."""
        return SparseRows(self.rows.power(2))

    def max(self, axis: int | None = None) -> np.ndarray:
        """The largest value, of all or of each column (axis 0); the zeros count."""
        return _dense(self.rows.max(axis=axis))

    def min(self, axis: int | None = None) -> np.ndarray:
        return _dense(self.rows.min(axis=axis))

    def tensors(self) -> dict[str, Tensor]:
        """What the rows consist of."""
        return {name: torch.from_numpy(getattr(self.rows, name)) for name in ("indptr", "indices", "data")}


@dataclass(frozen=True, slots=True)
class Shifted:
    """x - shift for sparse rows, in products only: the zeros stay."""

    base: SparseRows
    shift_D: Tensor

    def __matmul__(self, coef_D: Tensor) -> Tensor:
        return self.base @ coef_D - (self.shift_D * coef_D).sum()

    def left(self, A_KN: Tensor) -> Tensor:
        return self.base.left(A_KN) - A_KN.sum(1, keepdim=True) * self.shift_D


def join(parts: Sequence[np.ndarray | SparseRows]) -> np.ndarray | SparseRows:
    """The rows of all parts, in order."""
    if not isinstance(parts[0], SparseRows):
        return np.concatenate(parts)
    from scipy.sparse import vstack  # noqa: PLC0415 - sparse rows alone need it

    return SparseRows(vstack([part.rows for part in parts], format="csr"))


def _dense(found: object) -> np.ndarray:
    return found.toarray().reshape(-1) if hasattr(found, "toarray") else np.asarray(found)
