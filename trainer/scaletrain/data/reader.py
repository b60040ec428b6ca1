"""What a file format offers, and what formats share: columns of Arrow as numbers.

Legend: N rows of a batch, D features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import accumulate
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scaletrain.errors import InvalidData
from scaletrain.storage.file import File

Schema = Mapping[str, pa.DataType]
# Far more than classes are allowed: rows of most labels may yet be dropped.
MAX_LABELS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a file that can be read on its own: a row group, a run of bytes, the whole file."""

    path: str
    span: tuple[int, int] = (0, 0)  # what it means is the format's business
    first_row: int = 0  # in the file
    num_rows: int | None = None  # None: has to be counted

    @property
    def file(self) -> File:
        return File(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to read, and as what."""

    features: tuple[str, ...]
    label: str | None
    weight: str | None
    dtype: np.dtype  # of the features: float32 or float64
    types: Mapping[str, str]  # for text formats: what each column was taken for

    @property
    def columns(self) -> list[str]:
        return [*self.features, *filter(None, (self.label, self.weight))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Consecutive rows of a part."""

    X_ND: np.ndarray  # NaN where missing
    label: pa.Array | None
    weight_N: np.ndarray | None


class Reader(Protocol):
    """One file format."""

    has_names: bool  # of columns, that people know

    def schema(self, file: File) -> Schema:
        """Names and types of the columns, in order."""

    def parts(self, file: File) -> list[Part]:
        """The file in pieces, in order."""

    def count(self, part: Part) -> int:
        """Rows of a part whose `num_rows` is None."""

    def batches(self, part: Part, wanted: Wanted) -> Iterator[Batch]:
        """The rows of the part, in order."""

    def example(self, file: File, column: str) -> tuple[int, str] | None:
        """Row (from 0) and text of a value of a text column that is no number; None if none is near the start."""


def unique(file: File, names: Sequence[str]) -> Sequence[str]:
    """The names. InvalidData if one is there twice: nobody could say which column it means."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidData(f"{file} has columns twice: {', '.join(name or repr(name) for name in twice)}")
    return names


def to_batch(table: pa.RecordBatch | pa.Table, wanted: Wanted, place: str) -> Batch:
    """Features, label and weight of Arrow columns. InvalidData names the column that does not convert; `place`: the file."""
    X_ND = np.empty((table.num_rows, len(wanted.features)), dtype=wanted.dtype)
    for j, name in enumerate(wanted.features):
        X_ND[:, j] = numbers(table.column(name), wanted.dtype, f"{place}: column {name}")
    label = table.column(wanted.label) if wanted.label else None
    weight_N = None
    if wanted.weight:
        weight_N = numbers(table.column(wanted.weight), np.dtype(np.float64), f"{place}: column {wanted.weight}")
    return Batch(
        X_ND=X_ND, label=label.combine_chunks() if isinstance(label, pa.ChunkedArray) else label, weight_N=weight_N
    )


def numbers(column: pa.Array | pa.ChunkedArray, dtype: np.dtype, place: str) -> np.ndarray:
    """The values as floats, NaN for null. InvalidData if a whole number is too large to be exact."""
    chunks = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    try:
        return pc.cast(chunks, pa.from_numpy_dtype(dtype)).to_numpy()
    except pa.ArrowInvalid as error:
        raise InvalidData(f"{place}: {error}") from error


def first_text(column: pa.Array | pa.ChunkedArray, nulls: frozenset[str] = frozenset()) -> tuple[int, str] | None:
    """Row and text of the first value that is no number, or else of the first value."""
    values = [(row, str(v)) for row, v in enumerate(column.to_pylist()) if v is not None and str(v) not in nulls]
    return next(((row, v) for row, v in values if not is_number(v)), values[0] if values else None)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(slots=True)
class Vocabulary:
    """Numbers for the labels that a rank meets, in the order in which it meets them."""

    labels: list[object] = field(default_factory=list)
    _position: dict[object, int] = field(default_factory=dict)

    def positions(self, label: pa.Array) -> np.ndarray:
        """int64 (N,): the position of each value in `labels`; -1 for null and NaN. InvalidData if there are too many."""
        encoded = pc.dictionary_encode(label) if not pa.types.is_dictionary(label.type) else label
        lookup = np.array([self._of(value) for value in encoded.dictionary.to_pylist()] or [-1], dtype=np.int64)
        indices = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
        return np.where(pc.is_null(encoded).to_numpy(zero_copy_only=False), -1, lookup[indices])

    def _of(self, value: object) -> int:
        if value is None or value != value:  # NaN is no class
            return -1
        if isinstance(value, (float, Decimal)) and value == value // 1:
            value = int(value)  # one class, whether a file has 1 or 1.0: which a rank meets first must not matter
        if value not in self._position:
            if len(self.labels) == MAX_LABELS:
                raise InvalidData(f"the label has more than {MAX_LABELS} values, such as {value!r}: is it a number?")
            self._position[value] = len(self.labels)
            self.labels.append(float(value) if isinstance(value, Decimal) else value)
        return self._position[value]


def with_first_rows(parts: Sequence[Part]) -> list[Part]:
    """The parts, whose rows are counted, with the number of rows of the same file before each."""
    starts = [0, *accumulate(part.num_rows or 0 for part in parts)]
    first_of_file: dict[str, int] = {}
    return [
        replace(part, first_row=start - first_of_file.setdefault(part.path, start))
        for part, start in zip(parts, starts, strict=False)
    ]
