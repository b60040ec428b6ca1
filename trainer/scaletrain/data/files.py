"""Tables in files. Rank 0 looks at names, types and counts and tells the others; then each rank reads its own rows.

Legend: N rows of a batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from scalejob.api.v1alpha1 import FileFormat, Files
from scaletrain.comm import Comm
from scaletrain.errors import InvalidData
from scaletrain.storage.file import File

from .arrays import ArrayReader
from .arrow import ArrowReader
from .blocks import GRAM_FEATURES
from .delimited import CsvReader
from .exchange import broadcast_json, shared_out
from .find import find_files
from .libsvm import LABEL, LibsvmReader, check_fields, looked_at
from .parquet import ParquetReader
from .partitions import PartitionedReader, key_types
from .reader import Batch, Part, Reader, Vocabulary, Wanted, numbers, with_first_rows
from .schema import Opened, choose_columns, is_numeric
from .table import Columns, LabelKind, Origin, Table

T = TypeVar("T")
REMOTE_LOOKS = 16  # at the same time
READERS: Mapping[FileFormat, type[Reader]] = {
    FileFormat.PARQUET: ParquetReader,
    FileFormat.CSV: CsvReader,
    FileFormat.ARROW: ArrowReader,
    FileFormat.NPY: ArrayReader,
    FileFormat.LIBSVM: LibsvmReader,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """A Source of rows from files."""

    columns: Columns
    reader: Reader
    wanted: Wanted
    label_kind: LabelKind
    parts: Sequence[Part]
    vocabulary: Vocabulary = field(default_factory=Vocabulary)

    @property
    def num_rows(self) -> int:
        return sum(part.num_rows or 0 for part in self.parts)

    @property
    def labels(self) -> list[object]:
        return self.vocabulary.labels

    def read(self, rows: range) -> Iterator[Table]:
        start = 0
        for part in self.parts:
            stop = start + (part.num_rows or 0)
            if start < rows.stop and stop > rows.start:
                yield from self._read_part(part, start, rows)
            start = stop

    def _read_part(self, part: Part, start: int, rows: range) -> Iterator[Table]:
        """The rows of a part, which begins with row `start`, that are in `rows`."""
        origin = Origin(name=part.path, offset=start - part.first_row)
        end = start + (part.num_rows or 0)
        for batch in self.reader.batches(part, self.wanted):
            table = self._table(batch, origin, start)
            stop = start + len(table)
            if start < rows.stop and stop > rows.start:
                yield table.take(slice(max(0, rows.start - start), rows.stop - start))
            start = stop
            if start >= rows.stop:
                return
        if start != end:
            raise InvalidData(
                f"{part.path} changed while it was read: it has {start - end:+d} rows against the first look"
            )

    def _table(self, batch: Batch, origin: Origin, start: int) -> Table:
        return Table(
            origin=origin,
            row_N=np.arange(start, start + len(batch.X_ND)),
            X_ND=batch.X_ND,
            y_N=self._target(batch.label, origin.name),
            weight_N=batch.weight_N,
        )

    def _target(self, label: pa.Array | None, path: str) -> np.ndarray | None:
        if label is None or self.label_kind is LabelKind.NONE:
            return None
        if self.label_kind is LabelKind.CLASS:
            return self.vocabulary.positions(label)
        return numbers(label, np.dtype(np.float64), f"{path}: column {self.wanted.label}")


def open_files(comm: Comm, files: Files, label_kind: LabelKind, threads: int) -> FileSource:
    """Looks at the files. InvalidData names file and column; on rank 0, which then ends the others."""
    pa.set_cpu_count(threads)
    seen = broadcast_json(comm, _look(files, label_kind) if comm.rank == 0 else None)
    if seen["format"] == FileFormat.LIBSVM:
        return _open_libsvm(comm, _parts(seen), label_kind)
    reader = _reader(FileFormat(seen["format"]), seen["root"], seen["keys"])
    columns = Columns(features=tuple(seen["features"]), is_single=seen["is_single"], are_named=reader.has_names)
    return FileSource(
        columns=columns,
        reader=reader,
        wanted=Wanted(
            features=columns.features,
            label=files.label if label_kind is not LabelKind.NONE else None,
            weight=files.weight,
            dtype=np.dtype(np.float32 if columns.is_single else np.float64),
            types=seen["types"],
        ),
        label_kind=label_kind,
        parts=_counted(comm, reader, _parts(seen)),
    )


def _open_libsvm(comm: Comm, parts: Sequence[Part], label_kind: LabelKind) -> FileSource:
    """Its columns are known only when every part has been looked at."""
    reader, counted = looked_at(comm, parts)
    label = LABEL if label_kind is not LabelKind.NONE else None
    columns = Columns(
        features=reader.features, is_single=False, are_named=False, is_sparse=len(reader.features) > GRAM_FEATURES
    )
    return FileSource(
        columns=columns,
        reader=reader,
        wanted=Wanted(features=columns.features, label=label, weight=None, dtype=np.dtype(np.float64), types={}),
        label_kind=label_kind,
        parts=counted,
    )


def _parts(seen: Mapping[str, Any]) -> list[Part]:
    return [Part(**{**part, "span": tuple(part["span"])}) for part in seen["parts"]]


def _look(files: Files, label_kind: LabelKind) -> dict[str, Any]:
    """All that rank 0 tells the others."""
    file_format, found = find_files(files)
    if file_format is FileFormat.LIBSVM:
        check_fields(files)
        parts = _of_each(LibsvmReader().parts, found.files)
        return {"format": file_format, "parts": [asdict(part) for of_file in parts for part in of_file]}
    keys = key_types(found, READERS[file_format]().schema(found.files[0]))
    reader = _reader(file_format, found.root, keys)
    opened = Opened(schemas=dict(zip(found.files, _of_each(reader.schema, found.files), strict=True)), reader=reader)
    columns = choose_columns(opened, files, label_kind)
    if keys.keys() >= set(columns.features):
        raise InvalidData(
            f"{files.uri}: data.files.features names keys of folders only; at least one column must be of the files"
        )
    numeric_label = files.label if label_kind is LabelKind.NUMBER else None
    return {
        "format": file_format,
        "root": found.root,
        "keys": keys,
        "features": columns.features,
        "is_single": columns.is_single,
        "types": {
            name: _text_type(opened.types(name), as_number=name in (*columns.features, numeric_label, files.weight))
            for name in opened.first
        },
        "parts": [asdict(part) for parts in _of_each(reader.parts, found.files) for part in parts],
    }


def _reader(file_format: FileFormat, root: str, keys: Mapping[str, str]) -> Reader:
    reader = READERS[file_format]()
    return PartitionedReader(inner=reader, root=root, types=keys) if keys else reader


def _of_each(look: Callable[[File], T], files: Sequence[File]) -> list[T]:
    """What `look` finds in each file, in their order. A remote file is mostly waited for."""
    with ThreadPoolExecutor(1 if files[0].local else REMOTE_LOOKS, thread_name_prefix="look") as pool:
        return list(pool.map(look, files))


def _text_type(kinds: Sequence[pa.DataType], *, as_number: bool) -> str:
    """What a column of text files is read as: whole numbers at its start may be followed by others."""
    if all(map(pa.types.is_boolean, kinds)) or not all(map(is_numeric, kinds)):
        return str(kinds[0])
    is_whole = all(map(pa.types.is_integer, kinds)) and not as_number
    return "int64" if is_whole else "double"


def _counted(comm: Comm, reader: Reader, parts: Sequence[Part]) -> list[Part]:
    """The parts with their rows counted, each by one rank, and their first rows."""
    uncounted = [part for part in parts if part.num_rows is None]
    if not uncounted:
        return list(parts)
    counts = iter(shared_out(comm, uncounted, reader.count))
    return with_first_rows([replace(p, num_rows=next(counts)) if p.num_rows is None else p for p in parts])
