"""npy and npz. A part is a whole file; npy files are memory-mapped, so that a rank reads its rows only.

Columns of a .npy file: x0, x1, ... of a matrix, or the fields of a structured array. Of a .npz file: each vector under its
name; the columns of a matrix `X` are X0, X1, ...
"""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa

from scaletrain.errors import InvalidData

from .reader import Batch, Part, Schema, Wanted, first_text, unique

BATCH_ROWS = 65_536
MAX_EXACT = 2**53  # of whole numbers in float64


class ArrayReader:
    """A Reader."""

    has_names = False

    def schema(self, path: Path) -> Schema:
        return {name: _arrow_type(path, name, column.dtype) for name, column in _columns(path).items()}

    def parts(self, path: Path) -> list[Part]:
        lengths = {len(column) for column in _columns(path).values()}
        if len(lengths) > 1:
            raise InvalidData(f"{path}: its arrays have different numbers of rows: {sorted(lengths)}")
        return [Part(path=str(path), num_rows=lengths.pop() if lengths else 0)]

    def count(self, part: Part) -> int:
        raise AssertionError("the header has the count")

    def batches(self, part: Part, wanted: Wanted) -> Iterator[Batch]:
        columns = _columns(Path(part.path))
        for start in range(0, part.num_rows or 0, BATCH_ROWS):
            rows = slice(start, start + BATCH_ROWS)
            # Matrices are cut by rows first: their columns lie far apart in the file.
            features = [columns[name][rows] for name in wanted.features]
            for name, values in zip(wanted.features, features, strict=True):
                _check_exact(values, f"{part.path}: column {name}")
            X_ND = np.stack(features, axis=1, dtype=wanted.dtype, casting="unsafe")
            yield Batch(
                X_ND=np.ascontiguousarray(X_ND),
                label=_label(columns[wanted.label][rows]) if wanted.label else None,
                weight_N=columns[wanted.weight][rows].astype(np.float64) if wanted.weight else None,
            )

    def example(self, path: Path, column: str) -> tuple[int, str] | None:
        return first_text(pa.array(_columns(path)[column][:BATCH_ROWS]))


def _columns(path: Path) -> Mapping[str, np.ndarray]:
    """The columns as vectors: views of what is mapped or loaded."""
    try:
        arrays = _load(path)
    except (ValueError, OSError, EOFError, BadZipFile, zlib.error) as error:
        raise InvalidData(f"{path} cannot be read as npy or npz: {error}") from error
    columns: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        found = _columns_of(path, name, array)
        unique(path, [*columns, *found])
        columns |= found
    return columns


def _load(path: Path) -> Mapping[str, np.ndarray]:
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
        file.seek(0)
        if is_zip:
            with np.load(file, allow_pickle=False) as loaded:
                return dict(loaded)
    return {"x": np.load(path, mmap_mode="r", allow_pickle=False)}


def _columns_of(path: Path, name: str, array: np.ndarray) -> Mapping[str, np.ndarray]:
    if array.dtype.names:
        fields = {field: array[field] for field in array.dtype.names}
        return {field: column for f, a in fields.items() for field, column in _columns_of(path, f, a).items()}
    if array.ndim == 1:
        return {name: array}
    if array.ndim == 2:
        return {f"{name}{j}": array[:, j] for j in range(array.shape[1])}
    raise InvalidData(f"{path}: array {name} has {array.ndim} dimensions; vectors and matrices are allowed")


def _label(values: np.ndarray) -> pa.Array:
    return pa.array(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))


def _check_exact(values: np.ndarray, place: str) -> None:
    """As Arrow does for the other formats."""
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and len(values):
        for value in (values.min(), values.max()):
            if abs(int(value)) > MAX_EXACT:
                raise InvalidData(f"{place}: Integer value {value} not in range: {-MAX_EXACT} to {MAX_EXACT}")


def _arrow_type(path: Path, name: str, dtype: np.dtype) -> pa.DataType:
    if dtype.kind == "U":
        return pa.string()
    try:
        return pa.from_numpy_dtype(dtype)
    except (pa.ArrowNotImplementedError, NotImplementedError) as error:
        raise InvalidData(f"{path}: column {name} has the type {dtype}, which is not supported") from error
