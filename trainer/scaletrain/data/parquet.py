"""Parquet: a part is a row group. Row counts and types come from the footer."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as pq

from scaletrain.errors import InvalidData
from scaletrain.storage.file import File

from .reader import Batch, Part, Schema, Wanted, first_text, to_batch, unique

BATCH_ROWS = 65_536


class ParquetReader:
    """A Reader."""

    has_names = True

    def schema(self, file: File) -> Schema:
        with _opened(file) as opened:
            unique(file, opened.schema_arrow.names)
            return {column.name: column.type for column in opened.schema_arrow}

    def parts(self, file: File) -> list[Part]:
        with _opened(file) as opened:
            counts = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
        starts = accumulate(counts, initial=0)
        return [
            Part(path=file.name, span=(group, group + 1), first_row=start, num_rows=count)
            for group, (start, count) in enumerate(zip(starts, counts, strict=False))
        ]

    def count(self, part: Part) -> int:
        raise AssertionError("the footer has the counts")

    def batches(self, part: Part, wanted: Wanted) -> Iterator[Batch]:
        with _opened(part.file) as opened:
            groups = list(range(*part.span))
            columns = wanted.columns
            for batch in opened.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False):
                yield to_batch(batch, wanted, part.path)

    def example(self, file: File, column: str) -> tuple[int, str] | None:
        with _opened(file) as opened:
            batch = next(opened.iter_batches(BATCH_ROWS, columns=[column]), None)
        return None if batch is None else first_text(batch.column(0))


@contextmanager
def _opened(file: File) -> Iterator[pq.ParquetFile]:
    """A local file is memory-mapped; of a remote one the columns of a row group are fetched in few large ranges."""
    try:
        with pq.ParquetFile(file.local or file.open_ranges(), memory_map=True, pre_buffer=file.local is None) as opened:
            yield opened
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(f"{file} cannot be read as Parquet: {error}") from error
