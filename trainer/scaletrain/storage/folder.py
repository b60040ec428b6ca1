"""A folder to write to, so that nobody ever reads half of what is written, and to read from again.

    folder = open_folder("s3://bucket/model", "output.uri")
    folder.claim()                                            # before hours of work: can it be written?
    folder.write({"a": b"..", "_SUCCESS": b".."}, mark="_SUCCESS")

On a volume a file is written under another name, synced and renamed. An object store shows an object when it is whole.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Protocol

from scaletrain.errors import InvalidData

from .problems import is_missing, reaching
from .uri import file_system, is_local, local_path

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

LEAST_FREE_BYTES = 1 << 20


class Folder(Protocol):
    """Files by their names. Errors name the field of the spec and the URI: see `problems.reaching`."""

    def claim(self) -> None:
        """Makes it if need be. InvalidData if it cannot be written."""

    def write(self, files: Mapping[str, bytes], *, mark: str | None = None) -> None:
        """Each file whole or not at all, in this order. A reader finds the old files with the old `mark`, the new ones with
        the new one, or no file of that name; `mark` is the last of `files`."""

    def read(self, name: str) -> bytes:
        """InvalidData if it is not there or cannot be read."""

    def exists(self, name: str) -> bool: ...

    def names(self) -> list[str]:
        """Of the files in it, ascending, those that begin with a dot left out; none if there is no such folder."""

    def remove(self, name: str) -> None:
        """Does nothing if it is not there."""


def open_folder(uri: str, field: str) -> Folder:
    """The folder, which need not be there. InvalidSpec for a URI that no driver knows."""
    if is_local(uri):
        return LocalFolder(path=local_path(uri, field), label=f"{field}: {uri}")
    fs, path = file_system(uri, field)
    return RemoteFolder(fs=fs, path=path.rstrip("/"), label=f"{field}: {uri}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFolder:
    """On a mounted volume."""

    path: Path
    label: str

    def claim(self) -> None:
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=self.path, prefix=".probe-") as probe:
                probe.write(b"1")
                probe.flush()
            free = shutil.disk_usage(self.path).free
        if free < LEAST_FREE_BYTES:
            raise InvalidData(f"{self.label}: {free} bytes are free, more are needed")

    def write(self, files: Mapping[str, bytes], *, mark: str | None = None) -> None:
        """The bytes are on disk under other names before an older file is touched, so a full disk leaves those as they were."""
        with self._writing(), self._temporary(files) as parts:
            for name, content in files.items():
                _write_whole(parts[name], content)
            if mark:
                (self.path / mark).unlink(missing_ok=True)
                _sync_folder(self.path)
            for name in files:
                parts[name].replace(self.path / name)
            _sync_folder(self.path)

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise InvalidData(f"{self.label}/{name} cannot be read: {error.strerror or error}") from error

    def exists(self, name: str) -> bool:
        return (self.path / name).exists()

    def names(self) -> list[str]:
        if not self.path.is_dir():
            return []
        return sorted(file.name for file in self.path.iterdir() if file.is_file() and file.name[0] != ".")

    def remove(self, name: str) -> None:
        """Also what writers that were killed have left of it."""
        with self._writing():
            for file in (self.path / name, *self.path.glob(f".{name}.*.part")):
                file.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InvalidData(f"{self.label} cannot be written: {error.strerror or error}") from error

    @contextmanager
    def _temporary(self, names: Mapping[str, bytes]) -> Iterator[dict[str, Path]]:
        """Names beside the final ones, gone at the end whatever happens.

        Nobody else's: a rank of an attempt that was given up may still be writing.
        """
        writer = secrets.token_hex(8)
        parts = {name: self.path / f".{name}.{writer}.part" for name in names}
        try:
            yield parts
        finally:
            for part in parts.values():
                with suppress(OSError):
                    part.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFolder:
    """A common beginning of names in an object store."""

    fs: "AbstractFileSystem"
    path: str
    label: str

    def claim(self) -> None:
        probe = f".probe-{secrets.token_hex(8)}"
        self.write({probe: b"1"})
        self.remove(probe)

    def write(self, files: Mapping[str, bytes], *, mark: str | None = None) -> None:
        if mark:
            self.remove(mark)
        for name, content in files.items():
            with reaching(self.label):
                self.fs.pipe_file(self._at(name), content)

    def read(self, name: str) -> bytes:
        with reaching(f"{self.label}/{name}"):
            content: bytes = self.fs.cat_file(self._at(name))
        return content

    def exists(self, name: str) -> bool:
        with reaching(self.label):
            try:
                self.fs.info(self._at(name))  # `exists` of some drivers is false too where nobody answers
            except FileNotFoundError as error:
                if not is_missing(error):
                    raise
                return False
        return True

    def names(self) -> list[str]:
        with reaching(self.label):
            found = self.fs.find(self.path, maxdepth=1)
        names = (path.rpartition("/")[2] for path in found)
        return sorted(name for name in names if name[0] != ".")

    def remove(self, name: str) -> None:
        with reaching(self.label), suppress(FileNotFoundError):
            self.fs.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}"


def _write_whole(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Makes the renames durable, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
