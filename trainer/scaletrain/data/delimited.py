"""CSV with a header: a part is the lines that begin in a run of PART_BYTES. No value may contain a line break; one where two parts
meet is refused, since its halves could be taken for rows.

The types of columns are taken from the first MiB of the first file; every later value has to fit. Rows are counted from 1,
the header not counted.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pc

from scaletrain.errors import InvalidData
from scaletrain.storage.file import File

from .reader import Batch, Part, Schema, Wanted, first_text, is_number, to_batch, unique

PART_BYTES = 16 << 20
HEAD_BYTES = 1 << 20
GZIP = b"\x1f\x8b"
NULLS = frozenset(pc.ConvertOptions().null_values)


class CsvReader:
    """A Reader."""

    has_names = True

    def schema(self, file: File) -> Schema:
        with file.open() as stream:
            names = unique(file, _header(file, stream)[0])
        other = next((mark for mark in _OTHER_MARKS if len(names) == 1 and mark in names[0]), None)
        if other:
            raise InvalidData(
                f"{file}: the header {names[0][:200]!r} has no comma but a {_OTHER_MARKS[other]}: values have to be separated by commas"
            )
        return {column.name: column.type for column in _head(file).schema}

    def parts(self, file: File) -> list[Part]:
        with file.open() as stream:
            start = _header(file, stream)[1]
        edges = [*range(start, file.size, PART_BYTES), file.size]
        return [Part(path=file.name, span=span) for span in pairwise(edges)]

    def count(self, part: Part) -> int:
        with part.file.open() as stream:
            first = _header(part.file, stream)[0][:1]
        return _parse(part, {first[0]: pa.string()}, first).num_rows

    def batches(self, part: Part, wanted: Wanted) -> Iterator[Batch]:
        types = {name: _TYPES[wanted.types[name]] for name in wanted.columns}
        try:
            table = _parse(part, types, wanted.columns)
        except pa.ArrowException as error:
            raise InvalidData(f"{part.path}: {_explain(part, wanted.types, wanted.columns) or error}") from error
        yield to_batch(table, wanted, part.path)

    def example(self, file: File, column: str) -> tuple[int, str] | None:
        return first_text(_head(file, {column: pa.string()}).column(column), NULLS)


_TYPES: Mapping[str, pa.DataType] = {
    "double": pa.float64(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}


_OTHER_MARKS = {";": "semicolon", "\t": "tab", "|": "bar"}


def _header(file: File, stream: BinaryIO) -> tuple[list[str], int]:
    """Names of the columns, and where the first row begins: there the stream is then."""
    line = stream.readline()
    if line.startswith(GZIP):  # of which no rank could read its own rows only
        raise InvalidData(f"{file} is compressed by gzip: unpack it, or write the rows as Parquet")
    try:
        names = next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")]), [])
    except UnicodeDecodeError as error:
        raise InvalidData(f"{file}: the header is not UTF-8 text: {error}; save the file as UTF-8") from error
    except csv.Error as error:
        raise InvalidData(f"{file}: the header is no line of CSV that ends with a line feed: {error}") from error
    if not any(names):
        raise InvalidData(f"{file}: the first line has to hold the names of the columns; it is empty")
    return names, stream.tell()


def _head(file: File, types: Mapping[str, pa.DataType] | None = None) -> pa.Table:
    """The first rows, whole lines only."""
    with file.open() as stream:
        names, _ = _header(file, stream)
        text = stream.read(HEAD_BYTES)
        text += stream.readline()
    return _table(file, names, text, _converting(types or {}))


def _parse(part: Part, types: Mapping[str, pa.DataType], columns: list[str]) -> pa.Table:
    with part.file.open() as stream:
        names, _ = _header(part.file, stream)
        text = lines(stream, *part.span)
    if part.span[1] < part.file.size and _ends_in_quotes(text):
        raise InvalidData(
            f"{part.path}: a value in quotes holds a line break: take it out, or write the rows as Parquet"
        )
    return _table(part.file, names, text, _converting(types, columns))


def lines(stream: BinaryIO, start: int, stop: int) -> bytes:
    """The lines that begin at bytes from `start` to before `stop`. A line begins after each line feed."""
    stream.seek(start - 1)
    text = stream.read(stop - start + 1)
    first = text.find(b"\n") + 1
    if not 0 < first < len(text):
        return b""
    end = b"" if text.endswith(b"\n") else stream.readline()
    return text[first:] + end


def _ends_in_quotes(text: bytes) -> bool:
    """Whether the last value has no closing quote. Quotes come in pairs, but for those inside of a value without any, as 5" pipe."""
    if text.count(b'"') % 2 == 0:
        return False
    try:
        for _ in csv.reader(io.StringIO(text.decode(errors="replace"), newline=""), strict=True):
            pass
    except csv.Error as error:
        return "unexpected end of data" in str(error)
    return False


def _table(file: File, names: list[str], text: bytes, converting: pc.ConvertOptions) -> pa.Table:
    """Rows as a table, also if there are none. ArrowInvalid if a value does not convert."""
    uneven: list[pc.InvalidRow] = []

    def note(row: pc.InvalidRow) -> str:
        uneven.append(row)
        return "error"

    # One block: a part is read by one thread, and an error is about this part only.
    reading = pc.ReadOptions(column_names=names, use_threads=False, block_size=2 * PART_BYTES)
    try:
        return pc.read_csv(io.BytesIO(text or b"\n"), reading, pc.ParseOptions(invalid_row_handler=note), converting)
    except pa.ArrowInvalid as error:
        if not uneven:
            raise
        row = uneven[0]
        hint = ", perhaps half of a value that holds a line break" if '"' in row.text else ""
        raise InvalidData(
            f"{file}: a row has {row.actual_columns} values, the header has {row.expected_columns} names: {row.text[:200]!r}{hint}"
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
