"""Parquet: a part is a row group. Row counts and types come from the footer."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from scaletrain.errors import InvalidData

from .reader import Batch, Part, Schema, Wanted, first_text, to_batch, unique

BATCH_ROWS = 65_536


class ParquetReader:
    """A Reader."""

    has_names = True

    def schema(self, path: Path) -> Schema:
        with _problems(str(path)), pq.ParquetFile(path) as file:
            unique(path, file.schema_arrow.names)
            return {column.name: column.type for column in file.schema_arrow}

    def parts(self, path: Path) -> list[Part]:
        with _problems(str(path)), pq.ParquetFile(path) as file:
            counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        starts = accumulate(counts, initial=0)
        return [
            Part(path=str(path), span=(group, group + 1), first_row=start, num_rows=count)
            for group, (start, count) in enumerate(zip(starts, counts, strict=False))
        ]

    def count(self, part: Part) -> int:
        raise AssertionError("the footer has the counts")

    def batches(self, part: Part, wanted: Wanted) -> Iterator[Batch]:
        with _problems(part.path), pq.ParquetFile(part.path, memory_map=True) as file:
            groups = list(range(*part.span))
            columns = wanted.columns
            for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False):
                yield to_batch(batch, wanted, part.path)

    def example(self, path: Path, column: str) -> tuple[int, str] | None:
        with _problems(str(path)), pq.ParquetFile(path) as file:
            batch = next(file.iter_batches(BATCH_ROWS, columns=[column]), None)
        return None if batch is None else first_text(batch.column(0))


@contextmanager
def _problems(path: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(f"{path} cannot be read as Parquet: {error}") from error
