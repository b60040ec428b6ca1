"""npy and npz. A part is a whole file; npy files are memory-mapped, so that a rank reads its rows only.

Columns of a .npy file: x0, x1, ... of a matrix, or the fields of a structured array. Of a .npz file: each vector under its
name; the columns of a matrix `X` are X0, X1, ...
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from scaletrain.errors import InvalidData

from .reader import Batch, Part, Schema, Wanted, first_text

BATCH_ROWS = 65_536


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
            X_ND = np.stack(
                [columns[name][rows] for name in wanted.features], axis=1, dtype=wanted.dtype, casting="unsafe"
            )
            yield Batch(
                X_ND=np.ascontiguousarray(X_ND),
                label=pa.array(np.ascontiguousarray(columns[wanted.label][rows])) if wanted.label else None,
                weight_N=columns[wanted.weight][rows].astype(np.float64) if wanted.weight else None,
            )

    def example(self, path: Path, column: str) -> tuple[int, str] | None:
        return first_text(pa.array(_columns(path)[column][:BATCH_ROWS]))


def _columns(path: Path) -> Mapping[str, np.ndarray]:
    """The columns as vectors: views of what is mapped or loaded."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        arrays = {"x": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError) as error:
        raise InvalidData(f"{path} cannot be read as npy or npz: {error}") from error
    columns: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        columns |= _columns_of(path, name, array)
    return columns


def _columns_of(path: Path, name: str, array: np.ndarray) -> Mapping[str, np.ndarray]:
    if array.dtype.names:
        return {field: array[field] for field in array.dtype.names}
    if array.ndim == 1:
        return {name: array}
    if array.ndim == 2:
        return {f"{name}{j}": array[:, j] for j in range(array.shape[1])}
    raise InvalidData(f"{path}: array {name} has {array.ndim} dimensions; vectors and matrices are allowed")


def _arrow_type(path: Path, name: str, dtype: np.dtype) -> pa.DataType:
    if dtype.kind == "U":
        return pa.string()
    try:
        return pa.from_numpy_dtype(dtype)
    except (pa.ArrowNotImplementedError, NotImplementedError) as error:
        raise InvalidData(f"{path}: column {name} has the type {dtype}, which is not supported") from error
