"""A file to read from, anywhere in it. Of a remote file only the bytes that are asked for are fetched."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from scaletrain.errors import InvalidData

from .problems import reaching
from .uri import file_system, is_local, local_path

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

FIELD = "data.files.uri"
BUFFER_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class File:
    """By its name: a path, or the URI of a remote file."""

    name: str
    field: str = FIELD  # of the spec, for messages

    def __str__(self) -> str:
        return self.name

    @property
    def local(self) -> Path | None:
        """Where it can be memory-mapped; None if it is remote."""
        return local_path(self.name, self.field) if is_local(self.name) else None

    @property
    def suffix(self) -> str:
        """The ending of the name, in small letters: ".csv"."""
        return Path(self.name.partition("?")[0] if not self.local else self.name).suffix.lower()

    @property
    def size(self) -> int:
        """In bytes."""
        return self.local.stat().st_size if self.local else _size(*file_system(self.name, self.field), self.name)

    def open(self) -> BinaryIO:
        """For a header and what follows it: of a remote file BUFFER_BYTES are fetched at a time, or more if more is read."""
        if self.local:
            return self.local.open("rb")
        return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", self.open_ranges()), BUFFER_BYTES))

    def open_ranges(self) -> BinaryIO:
        """For few large reads: each is one request for exactly its bytes."""
        if self.local:
            return self.local.open("rb")
        fs, path = file_system(self.name, self.field)
        return cast("BinaryIO", _Ranges(fs, path, self.name))


class _Ranges(io.RawIOBase):
    """A remote file by ranges of bytes."""

    def __init__(self, fs: "AbstractFileSystem", path: str, name: str) -> None:
        self._fs, self._path, self._name = fs, path, name
        self._size, self._at = _size(fs, path, name), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._at + size, self._size)
        if end <= self._at:
            return b""
        with reaching(self._name):
            content: bytes = self._fs.cat_file(self._path, start=self._at, end=end)
        if len(content) != end - self._at:
            raise InvalidData(
                f"{self._name}: {end - self._at} bytes from byte {self._at} were asked for, {len(content)} came:"
                " the file has changed, or its server does not serve ranges of bytes"
            )
        self._at = end
        return content


def _size(fs: "AbstractFileSystem", path: str, name: str) -> int:
    with reaching(name):
        size = fs.info(path)["size"]
    if size is None:
        raise InvalidData(f"{name}: its server does not tell its size")
    return int(size)
