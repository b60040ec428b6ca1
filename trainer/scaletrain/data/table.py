"""Rows as a source hands them over, and what a source is.

Legend: N rows of a table, D features.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Protocol

import numpy as np

from .sparse import SparseRows


class LabelKind(Enum):
    """What the workload learns: nothing, a number, or a class."""

    NONE = "none"
    NUMBER = "number"
    CLASS = "class"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a table's rows come from, for messages."""

    name: str  # of the file, or of the generator
    offset: int = 0  # global number of that file's first row


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Consecutive rows of one file. Missing: NaN in numbers, -1 in classes."""

    origin: Origin
    row_N: np.ndarray  # int64, global numbers
    X_ND: np.ndarray | SparseRows  # float32 or float64, C order
    y_N: np.ndarray | None = None  # float64 numbers, or int64 positions in the source's `labels`
    weight_N: np.ndarray | None = None  # float64

    def __len__(self) -> int:
        return len(self.row_N)

    def take(self, which: slice | np.ndarray) -> "Table":
        """The rows of a slice or a mask."""
        parts = {name: getattr(self, name) for name in ("row_N", "X_ND", "y_N", "weight_N")}
        return replace(self, **{name: None if part is None else part[which] for name, part in parts.items()})

    def cut(self, num_rows: int) -> Iterator["Table"]:
        """Parts whose rows share the quotient row // num_rows."""
        if not len(self):
            return
        first, last = int(self.row_N[0]), int(self.row_N[-1])
        limits = np.arange(first - first % num_rows, last + num_rows + 1, num_rows)
        edges = np.unique(np.searchsorted(self.row_N, limits))
        for start, stop in pairwise(edges):
            yield self.take(slice(start, stop))


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What is known of the features before any row is read."""

    features: tuple[str, ...]
    is_single: bool  # float32 holds every value exactly
    are_named: bool  # by the user's own columns, not by their places
    is_sparse: bool = False  # tables have SparseRows


class Source(Protocol):
    """A data set of which each rank reads its own rows. Opened by all ranks together."""

    columns: Columns
    num_rows: int
    labels: list[object]  # classes in the order in which this rank met them; grows while reading

    def read(self, rows: range) -> Iterator[Table]:
        """The rows with these global numbers, in order, in tables of any length."""
