"""Folders key=value, as Hive, Spark and pyarrow write them: each key is a column, with one value in all rows of a file.

Legend: N rows of a batch, D features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from scaletrain.storage.file import File
from scaletrain.storage.listing import Listing, keys_of

from .reader import Batch, Part, Reader, Schema, Wanted, numbers

NULL = "__HIVE_DEFAULT_PARTITION__"
# The first that takes all values of a key: small whole numbers are exact in float32.
TYPES: Mapping[str, pa.DataType] = {str(kind): kind for kind in (pa.int16(), pa.int64(), pa.float64(), pa.string())}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionedReader:
    """A Reader of files below `root`, with the keys of their folders as columns."""

    inner: Reader
    root: str
    types: Mapping[str, str]  # of the keys: names in TYPES

    @property
    def has_names(self) -> bool:
        return self.inner.has_names

    def schema(self, file: File) -> Schema:
        return {**self.inner.schema(file), **{key: TYPES[name] for key, name in self.types.items()}}

    def parts(self, file: File) -> list[Part]:
        return self.inner.parts(file)

    def count(self, part: Part) -> int:
        return self.inner.count(part)

    def batches(self, part: Part, wanted: Wanted) -> Iterator[Batch]:
        for batch in self.inner.batches(part, self._without_keys(wanted)):
            yield self._with_keys(batch, part.file, wanted)

    def example(self, file: File, column: str) -> tuple[int, str] | None:
        if column not in self.types:
            return self.inner.example(file, column)
        value = self._value(file, column)
        return None if value is None else (0, value)

    def _without_keys(self, wanted: Wanted) -> Wanted:
        return replace(
            wanted,
            features=tuple(name for name in wanted.features if name not in self.types),
            label=None if wanted.label in self.types else wanted.label,
            weight=None if wanted.weight in self.types else wanted.weight,
        )

    def _with_keys(self, batch: Batch, file: File, wanted: Wanted) -> Batch:
        num_rows = len(batch.X_ND)
        of_files = iter(batch.X_ND.T)
        X_ND = np.empty((num_rows, len(wanted.features)), dtype=wanted.dtype)
        for j, name in enumerate(wanted.features):
            X_ND[:, j] = self._numbers(file, name, 1, wanted.dtype) if name in self.types else next(of_files)
        return Batch(
            X_ND=X_ND,
            label=self._column(file, wanted.label, num_rows) if wanted.label in self.types else batch.label,
            weight_N=self._numbers(file, wanted.weight, num_rows, np.dtype(np.float64))
            if wanted.weight in self.types
            else batch.weight_N,
        )

    def _numbers(self, file: File, key: str, num_rows: int, dtype: np.dtype) -> np.ndarray:
        return numbers(self._column(file, key, num_rows), dtype, f"{file}: column {key}")

    def _column(self, file: File, key: str, num_rows: int) -> pa.Array:
        return (
            pa.array([self._value(file, key)], pa.string())
            .cast(TYPES[self.types[key]])
            .take(pa.array(np.zeros(num_rows, dtype=np.int64)))
        )

    def _value(self, file: File, key: str) -> str | None:
        return _values(file.name.removeprefix(self.root)).get(key)


def key_types(listing: Listing, own: Schema) -> dict[str, str]:
    """The keys of the folders and their types. A key that is also a column of the files, `own`, is theirs."""
    rows = [_values(name) for name in listing.names]
    keys = dict.fromkeys(key for row in rows for key in row if key not in own)
    return {key: _type_of([row.get(key) for row in rows]) for key in keys}


def _values(name: str) -> dict[str, str | None]:
    """None: the value is missing."""
    return {unquote(key): None if value == NULL else unquote(value) for key, value in keys_of(name).items()}


def _type_of(values: Sequence[str | None]) -> str:
    return next(name for name, kind in TYPES.items() if _fits(pa.array(values, pa.string()), kind))


def _fits(values: pa.Array, kind: pa.DataType) -> bool:
    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
