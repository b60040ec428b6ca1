"""npy and npz. A part of a npy file is a run of rows of about PART_BYTES, mapped or fetched on its own; a npz file is one part.

Columns of a .npy file: x0, x1, ... of a matrix, or the fields of a structured array. Of a .npz file: each vector under its
name; the columns of a matrix `X` are X0, X1, ...
"""

import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa

from scaletrain.errors import InvalidData
from scaletrain.storage.file import File

from .reader import Batch, Part, Schema, Wanted, first_text, unique

BATCH_ROWS = 65_536
PART_BYTES = 16 << 20
MAX_EXACT = 2**53  # of whole numbers in float64


class ArrayReader:
    """A Reader."""

    has_names = False

    def schema(self, file: File) -> Schema:
        return {name: _arrow_type(file, name, column.dtype) for name, column in _columns(file, (0, 0)).items()}

    def parts(self, file: File) -> list[Part]:
        layout = _layout(file)
        if layout:
            edges = [*range(0, layout.num_rows, max(1, PART_BYTES // layout.row_bytes)), layout.num_rows]
            return [
                Part(path=file.name, span=(start, stop), first_row=start, num_rows=stop - start)
                for start, stop in pairwise(edges)
            ]
        lengths = {len(column) for column in _columns(file, (0, None)).values()}
        if len(lengths) > 1:
            raise InvalidData(f"{file}: its arrays have different numbers of rows: {sorted(lengths)}")
        num_rows = lengths.pop() if lengths else 0
        return [Part(path=file.name, span=(0, num_rows), num_rows=num_rows)]

    def count(self, part: Part) -> int:
        raise AssertionError("the header has the count")

    def batches(self, part: Part, wanted: Wanted) -> Iterator[Batch]:
        columns = _columns(part.file, part.span)
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

    def example(self, file: File, column: str) -> tuple[int, str] | None:
        return first_text(pa.array(_columns(file, (0, BATCH_ROWS))[column][:BATCH_ROWS]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Of a .npy file of which rows can be read on their own."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int  # of the first row, in bytes

    @property
    def num_rows(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        return max(1, self.dtype.itemsize * prod(self.shape[1:]))


def _layout(file: File) -> _Layout | None:
    """None: the file is read as a whole. It is a .npz file, holds no rows of numbers, or is remote and lies there by columns."""
    with _problems(file), file.open() as stream:
        if stream.read(2) == b"PK":
            return None
        stream.seek(0)
        read_header = _HEADERS.get(np.lib.format.read_magic(stream))
        if read_header is None:
            return None
        shape, is_by_columns, dtype = read_header(stream)
        if not shape or dtype.hasobject or (is_by_columns and not file.local):
            return None
        return _Layout(dtype=dtype, shape=shape, offset=stream.tell())


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def _columns(file: File, span: tuple[int, int | None]) -> Mapping[str, np.ndarray]:
    """The columns of these rows as vectors: views of what is mapped, fetched or loaded."""
    layout = _layout(file)
    with _problems(file):
        arrays = {"x": _rows(file, layout, span)} if layout else _load(file, span)
    columns: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        found = _columns_of(file, name, array)
        unique(file, [*columns, *found])
        columns |= found
    return columns


@contextmanager
def _problems(file: File) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, OSError, EOFError, BadZipFile, zlib.error) as error:
        raise InvalidData(f"{file} cannot be read as npy or npz: {error}") from error


def _rows(file: File, layout: _Layout, span: tuple[int, int | None]) -> np.ndarray:
    if file.local:
        return np.load(file.local, mmap_mode="r", allow_pickle=False)[slice(*span)]
    start, stop, _ = slice(*span).indices(layout.num_rows)
    with file.open_ranges() as stream:
        stream.seek(layout.offset + start * layout.row_bytes)
        content = stream.read((stop - start) * layout.row_bytes)
    return np.ndarray((stop - start, *layout.shape[1:]), layout.dtype, buffer=content)


def _load(file: File, span: tuple[int, int | None]) -> Mapping[str, np.ndarray]:
    with file.open() if file.local else io.BytesIO(file.open_ranges().read()) as stream:
        loaded = np.load(stream, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded[slice(*span)] if loaded.ndim else loaded}
        with loaded:
            return dict(loaded)


def _columns_of(file: File, name: str, array: np.ndarray) -> Mapping[str, np.ndarray]:
    if array.dtype.names:
        fields = {field: array[field] for field in array.dtype.names}
        return {field: column for f, a in fields.items() for field, column in _columns_of(file, f, a).items()}
    if array.ndim == 1:
        return {name: array}
    if array.ndim == 2:
        return {f"{name}{j}": array[:, j] for j in range(array.shape[1])}
    raise InvalidData(f"{file}: array {name} has {array.ndim} dimensions; vectors and matrices are allowed")


def _label(values: np.ndarray) -> pa.Array:
    return pa.array(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))


def _check_exact(values: np.ndarray, place: str) -> None:
    """As Arrow does for the other formats."""
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and len(values):
        for value in (values.min(), values.max()):
            if abs(int(value)) > MAX_EXACT:
                raise InvalidData(f"{place}: Integer value {value} not in range: {-MAX_EXACT} to {MAX_EXACT}")


def _arrow_type(file: File, name: str, dtype: np.dtype) -> pa.DataType:
    if dtype.kind == "U":
        return pa.string()
    try:
        return pa.from_numpy_dtype(dtype)
    except (pa.ArrowNotImplementedError, NotImplementedError) as error:
        raise InvalidData(f"{file}: column {name} has the type {dtype}, which is not supported") from error
