"""What every row has to satisfy, whatever it was read from. Messages name file, row and column.

Legend: N rows of a table, D features.
"""

from dataclasses import dataclass

import numpy as np

from scaletrain.errors import InvalidData

from .sparse import SparseRows
from .table import Table

# Squares of such values, times weights of that size, times any number of rows, are finite.
LARGEST = np.float64(1e75)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is allowed, and what columns are called."""

    features: tuple[str, ...]
    label: str | None
    weight: str | None
    missing_allowed: bool  # in features: they are dropped or filled in
    drop: bool  # rows with anything missing


def clean(table: Table, rules: Rules) -> Table:
    """The table without the rows to drop. InvalidData with everything that is wrong in it."""
    problems = [*_feature_problems(table, rules), *_label_problems(table, rules), *_weight_problems(table, rules)]
    if problems:
        raise InvalidData(f"{table.origin.name}: " + "; ".join(problems))
    return table.take(~_has_missing(table)) if rules.drop else table


def _has_missing(table: Table) -> np.ndarray:
    is_finite = isinstance(table.X_ND, SparseRows)
    missing_N = np.zeros(len(table), dtype=bool) if is_finite else np.isnan(table.X_ND).any(axis=1)
    return missing_N if table.y_N is None else missing_N | _missing_labels(table.y_N)


def _missing_labels(y_N: np.ndarray) -> np.ndarray:
    return np.isnan(y_N) if y_N.dtype.kind == "f" else y_N < 0


def _feature_problems(table: Table, rules: Rules) -> list[str]:
    if not len(table) or (table.X_ND.max() <= LARGEST and table.X_ND.min() >= -LARGEST):  # both are NaN if any value is
        return []
    problems = [p for what, bad_ND in _extremes(table.X_ND) for p in _per_column(table, bad_ND, rules, what)]
    if not rules.missing_allowed:
        advice = "is missing or NaN (prepare.missing can drop the row or fill in the mean or median)"
        problems += _per_column(table, np.isnan(table.X_ND), rules, advice)
    return problems


def _per_column(table: Table, bad_ND: np.ndarray, rules: Rules, what: str) -> list[str]:
    return [_said(table, rules.features[j], bad_ND[:, j], what) for j in np.flatnonzero(bad_ND.any(axis=0))]


def _label_problems(table: Table, rules: Rules) -> list[str]:
    if table.y_N is None:
        return []
    advice = "is missing or NaN (rows without a label can be left out with prepare.missing: drop)"
    missing_N = _missing_labels(table.y_N) & (not rules.drop)
    found = [(advice, missing_N), *(_extremes(table.y_N) if table.y_N.dtype.kind == "f" else ())]
    return [_said(table, f"{rules.label} (the label)", bad_N, what) for what, bad_N in found if bad_N.any()]


def _weight_problems(table: Table, rules: Rules) -> list[str]:
    if table.weight_N is None:
        return []
    found = [
        ("is missing or NaN", np.isnan(table.weight_N)),
        ("is negative", table.weight_N < 0),
        *_extremes(table.weight_N),
    ]
    return [_said(table, f"{rules.weight} (the weight)", bad_N, what) for what, bad_N in found if bad_N.any()]


def _extremes(values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """What is wrong, and a mask of the values' shape."""
    is_infinite = np.isinf(values)
    return [
        ("is infinite", is_infinite),
        (f"is beyond {LARGEST:g}, too large to be learned from,", (np.abs(values) > LARGEST) & ~is_infinite),
    ]


def _said(table: Table, column: str, bad_N: np.ndarray, what: str) -> str:
    first = int(table.row_N[np.argmax(bad_N)]) - table.origin.offset + 1
    more = int(bad_N.sum()) - 1
    return f"column {column} {what} in row {first}" + (f" and {more} more near it" if more else "")
