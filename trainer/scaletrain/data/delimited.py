"""CSV with a header: a part is a run of whole lines of about PART_BYTES. No value may contain a line break.

The types of columns are taken from the first MiB of the first file; every later value has to fit. Rows are counted from 1,
the header not counted.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc

from scaletrain.errors import InvalidData

from .reader import Batch, Part, Schema, Wanted, first_text, is_number, to_batch, unique

PART_BYTES = 16 << 20
HEAD_BYTES = 1 << 20
NULLS = frozenset(pc.ConvertOptions().null_values)


class CsvReader:
    """A Reader."""

    has_names = True

    def schema(self, path: Path) -> Schema:
        unique(path, _header(path)[0])
        return {column.name: column.type for column in _head(path).schema}

    def parts(self, path: Path) -> list[Part]:
        start, end = _header(path)[1], path.stat().st_size
        edges = [start]
        with path.open("rb") as file:
            while edges[-1] < end:
                file.seek(min(edges[-1] + PART_BYTES, end))
                file.readline()
                edges.append(file.tell())
        return [Part(path=str(path), span=span) for span in pairwise(edges)]

    def count(self, part: Part) -> int:
        first = _header(Path(part.path))[0][:1]
        return _parse(part, {first[0]: pa.string()}, first).num_rows

    def batches(self, part: Part, wanted: Wanted) -> Iterator[Batch]:
        types = {name: _TYPES[wanted.types[name]] for name in wanted.columns}
        try:
            table = _parse(part, types, wanted.columns)
        except pa.ArrowException as error:
            raise InvalidData(f"{part.path}: {_explain(part, wanted.types, wanted.columns) or error}") from error
        yield to_batch(table, wanted, part.path)

    def example(self, path: Path, column: str) -> tuple[int, str] | None:
        return first_text(_head(path, {column: pa.string()}).column(column), NULLS)


_TYPES: Mapping[str, pa.DataType] = {
    "double": pa.float64(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}


def _header(path: Path) -> tuple[list[str], int]:
    """Names of the columns, and where the first row begins."""
    with path.open("rb") as file:
        line = file.readline()
        try:
            names = next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")]), [])
        except UnicodeDecodeError as error:
            raise InvalidData(f"{path}: the header is not UTF-8 text: {error}") from error
        except csv.Error as error:
            raise InvalidData(f"{path}: the header is no line of CSV that ends with a line feed: {error}") from error
        if not any(names):
            raise InvalidData(f"{path}: the first line has to hold the names of the columns; it is empty")
        return names, file.tell()


def _head(path: Path, types: Mapping[str, pa.DataType] | None = None) -> pa.Table:
    """The first rows, whole lines only."""
    with path.open("rb") as file:
        file.seek(_header(path)[1])
        text = file.read(HEAD_BYTES)
        text += file.readline()
    return _table(path, text, _converting(types or {}))


def _parse(part: Part, types: Mapping[str, pa.DataType], columns: list[str]) -> pa.Table:
    with Path(part.path).open("rb") as file:
        file.seek(part.span[0])
        text = file.read(part.span[1] - part.span[0])
    return _table(Path(part.path), text, _converting(types, columns))


def _table(path: Path, text: bytes, converting: pc.ConvertOptions) -> pa.Table:
    """Rows as a table, also if there are none. ArrowInvalid if a value does not convert."""
    uneven: list[pc.InvalidRow] = []

    def note(row: pc.InvalidRow) -> str:
        uneven.append(row)
        return "error"

    names = _header(path)[0]
    # One block: a part is read by one thread, and an error is about this part only.
    reading = pc.ReadOptions(column_names=names, use_threads=False, block_size=2 * PART_BYTES)
    try:
        return pc.read_csv(io.BytesIO(text or b"\n"), reading, pc.ParseOptions(invalid_row_handler=note), converting)
    except pa.ArrowInvalid as error:
        if not uneven:
            raise
        row = uneven[0]
        raise InvalidData(
            f"{path}: a row has {row.actual_columns} values, the header has {row.expected_columns} names: {row.text[:200]!r}"
        ) from error


def _converting(types: Mapping[str, pa.DataType], columns: list[str] | None = None) -> pc.ConvertOptions:
    return pc.ConvertOptions(column_types=dict(types), include_columns=columns or [], strings_can_be_null=True)


def _explain(part: Part, types: Mapping[str, str], columns: list[str]) -> str:
    """What is wrong with the values of a part that does not convert: the first of each column."""
    numeric = [name for name in columns if types[name] in ("double", "int64")]
    table = _parse(part, dict.fromkeys(numeric, pa.string()), numeric)
    problems = []
    for name in numeric:
        bad = first_text(table.column(name), NULLS)
        if bad and not is_number(bad[1]):
            problems.append(f"column {name}: {bad[1]!r} in row {part.first_row + bad[0] + 1} is not a number")
    return "; ".join(problems)
