"""Arrow IPC, also known as Feather: a part is a record batch of a file, or a whole stream, which has no index.

Of a remote file only the buffers of the wanted columns are fetched.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from scaletrain.errors import InvalidData
from scaletrain.storage.file import File

from .reader import Batch, Part, Schema, Wanted, first_text, to_batch, unique

BATCH_ROWS = 65_536
MAGIC = b"ARROW1"  # of files; a stream begins with its first message
WHOLE = (0, 0)


class ArrowReader:
    """A Reader."""

    has_names = True

    def schema(self, file: File) -> Schema:
        with _opened(file) as reader:
            unique(file, reader.schema.names)
            return {column.name: column.type for column in reader.schema}

    def parts(self, file: File) -> list[Part]:
        with _opened(file) as reader:
            if isinstance(reader, pa.RecordBatchStreamReader):
                return [Part(path=file.name, span=WHOLE)]
            return [Part(path=file.name, span=(n, n + 1)) for n in range(reader.num_record_batches)]

    def count(self, part: Part) -> int:
        return sum(batch.num_rows for batch in _batches(part, columns=[]))

    def batches(self, part: Part, wanted: Wanted) -> Iterator[Batch]:
        for batch in _batches(part, wanted.columns):
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield to_batch(batch.slice(start, BATCH_ROWS), wanted, part.path)

    def example(self, file: File, column: str) -> tuple[int, str] | None:
        for part in self.parts(file)[:1]:
            for batch in _batches(part, [column]):
                return first_text(batch.column(column).slice(0, BATCH_ROWS))
        return None


def _batches(part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """With at least these columns."""
    with _opened(part.file) as reader:
        names = reader.schema.names
    with _opened(part.file, [names.index(name) for name in columns] or [0]) as reader:
        if isinstance(reader, pa.RecordBatchStreamReader):
            yield from reader
        else:
            yield from (reader.get_batch(n) for n in range(*part.span))


@contextmanager
def _opened(
    file: File, columns: list[int] | None = None
) -> Iterator[pa.RecordBatchFileReader | pa.RecordBatchStreamReader]:
    options = pa.ipc.IpcReadOptions(included_fields=columns, use_threads=False)
    try:
        with pa.memory_map(str(file.local)) if file.local else pa.PythonFile(file.open_ranges(), "r") as source:
            is_file = source.read(len(MAGIC)) == MAGIC
            source.seek(0)
            with (pa.ipc.open_file if is_file else pa.ipc.open_stream)(source, options=options) as reader:
                yield reader
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(f"{file} cannot be read as Arrow IPC: {error}") from error
