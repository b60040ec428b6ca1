"""A store of blocks in a file, for data larger than memory.

The file has no name, so whatever becomes of the process, nothing of it stays. Each block is a record:

    row_N | y_N | weight_N | X_ND        those that the block has, each from a multiple of 64 bytes on

and begins at a multiple of 4,096 bytes. Blocks are read past the page cache, but for an even share of them: as much as may stay in
memory, which is as much less to read in each pass. The kernel drops it should the memory be needed.

Where a record lies, its shape and its checksum (XXH3) are kept in memory: about 1 KiB for each block, that is for each megabyte or
so. It is checked when a record is first read. What comes before the features has a checksum of its own, and can be read alone.

Threads that read handle arrays and not tensors: each operation on a tensor gives the interpreter's lock to the thread that computes
and waits until it gets it back, which took longer than the operation.

Legend: N rows of a block, D features.
"""

import errno
import mmap
import os
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from math import prod
from pathlib import Path

import numpy as np
import torch
import xxhash
from torch import Tensor

from scaletrain.errors import CacheLost, InvalidData

from .blocks import Block, Head, StoredBlocks
from .direct import Buffers, TwoWays, aligned

ALIGNMENT = 64  # of vector instructions
FIELDS = ("row_N", "y_N", "weight_N", "X_ND")
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
UNUSABLE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A tensor of a record."""

    start: int
    stop: int
    dtype: np.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """A block in the file."""

    offset: int
    length: int
    checksum: int
    length_before: int  # of what comes before the features
    checksum_before: int
    pieces: Mapping[str, _Piece]


@dataclass(slots=True, kw_only=True)
class Disk:
    """The room for the files of this rank."""

    folder: Path
    limit: int  # bytes of all files together
    kept: int = 0  # bytes of a file of blocks that may stay in memory
    _used: Counter[int] = field(default_factory=Counter)  # by the number of the file
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def used(self) -> int:
        """Bytes of the files that are there."""
        return sum(self._used.values())

    def take(self, number: int, length: int) -> None:
        """InvalidData if the file may not grow so much."""
        if self.used + length > self.limit:
            raise InvalidData(
                f"data.cache: more than the {readable(self.limit)} that a process may use in {self.folder} are needed:"
                " raise data.cache.sizeLimit, or take more workers"
            )
        self._used[number] += length

    def forget(self, number: int) -> None:
        self._used.pop(number, None)

    @contextmanager
    def file(self) -> Iterator[tuple[int, int]]:
        """A new file without a name: its descriptor, to be duplicated by who wants to keep it, and its number."""
        with _told(self), tempfile.TemporaryFile(dir=self.folder, prefix="scalejob-cache-") as file:
            yield file.fileno(), next(self._numbers)

    def scratch(self, num_bytes: int) -> Tensor:
        """uint8, mapped to a file: the kernel moves it to the disk when memory is short."""
        length = max(num_bytes, 1)
        with self.file() as (file, number):
            self.take(number, length)
            os.posix_fallocate(file, 0, length)  # without room, writing to memory would end the process
            pages = mmap.mmap(file, length)
        weakref.finalize(pages, self.forget, number)
        return torch.frombuffer(pages, dtype=torch.uint8)[:num_bytes]


class BlockFile(StoredBlocks):
    """A Store. Blocks are read to `device`. The file is gone when this object is."""

    def __init__(self, disk: Disk, device: torch.device) -> None:
        self._disk, self._device = disk, device
        self._records: list[_Record] = []
        self._heads: list[Head] = []
        self._is_checked = bytearray()
        self._buffers = Buffers()
        self._size = 0
        with disk.file() as (file, self._number):
            self._file = TwoWays(file)
        weakref.finalize(self, disk.forget, self._number)

    @property
    def heads(self) -> Sequence[Head]:
        return self._heads

    def __len__(self) -> int:
        return len(self._records)

    def append(self, block: Block) -> None:
        """InvalidData if the disk has no room."""
        pieces = _layout(block)
        length = max(piece.stop for piece in pieces.values())
        buffer = np.zeros(aligned(length), dtype=np.uint8)
        for name, piece in pieces.items():
            _cut(buffer, piece).copy_(getattr(block, name))
        self._disk.take(self._number, len(buffer))
        with _told(self._disk):
            _write(self._file.through, buffer, self._size)
        length_before = pieces["X_ND"].start
        self._records.append(
            _Record(
                offset=self._size,
                length=length,
                checksum=checksum_of(buffer[:length]),
                length_before=length_before,
                checksum_before=checksum_of(buffer[:length_before]),
                pieces=pieces,
            )
        )
        self._heads.append(Head.of(block))
        self._is_checked.append(False)
        self._size += len(buffer)

    def __getitem__(self, index: int) -> Block:
        """CacheLost if it is not what was written."""
        record = self._records[index]
        buffer = self._read(index, record.length, None if self._is_checked[index] else record.checksum)
        self._is_checked[index] = True
        return Block(**{name: _cut(buffer, piece).to(self._device) for name, piece in record.pieces.items()})

    @property
    def featureless(self) -> StoredBlocks:
        return _Featureless(self)

    def without_features(self, index: int) -> Block:
        """The block with no columns of features, which are not read."""
        record = self._records[index]
        buffer = self._read(index, record.length_before, record.checksum_before)
        pieces = {name: piece for name, piece in record.pieces.items() if name != "X_ND"}
        head = self._heads[index]
        return Block(
            X_ND=torch.empty((head.num_rows, 0), dtype=head.dtype, device=self._device),
            **{name: _cut(buffer, piece).to(self._device) for name, piece in pieces.items()},
        )

    def _read(self, index: int, length: int, checksum: int | None) -> np.ndarray:
        """The first bytes of a record. No checksum: they have been checked before."""
        record, buffer = self._records[index], self._buffers.take(length)
        with _told(self._disk):
            is_whole = self._file.fill(buffer, record.offset, is_kept=self._is_kept(index))
        buffer = buffer[:length]
        if not is_whole or (checksum is not None and checksum_of(buffer) != checksum):
            raise CacheLost(
                f"the cache of rows in {self._disk.folder} is damaged: {readable(length)} at byte {record.offset}"
                " are not what was written there. A new attempt writes it anew; if it happens again, the disk is broken"
            )
        return buffer

    def _is_kept(self, index: int) -> bool:
        """Of an even share, so that the disk is as busy at the start of a pass as at its end."""
        num_kept = len(self) * min(self._disk.kept, self._size) // self._size
        return (index + 1) * num_kept // len(self) > index * num_kept // len(self)


class _Featureless(StoredBlocks):
    """The blocks of a file without their features."""

    at_once = 8  # to hand over one takes longer than to read it

    def __init__(self, file: BlockFile) -> None:
        self._file = file

    @property
    def heads(self) -> Sequence[Head]:
        return self._file.heads

    @property
    def featureless(self) -> StoredBlocks:
        return self

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, index: int) -> Block:
        return self._file.without_features(index)


def readable(num_bytes: float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.4g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.4g} TiB"


def _layout(block: Block) -> Mapping[str, _Piece]:
    pieces, start = {}, 0
    for name in FIELDS:
        value: Tensor | None = getattr(block, name)
        if value is not None:
            stop = start + prod(value.shape) * value.element_size()
            pieces[name] = _Piece(start=start, stop=stop, dtype=_numpy(value.dtype), shape=tuple(value.shape))
            start = -(-stop // ALIGNMENT) * ALIGNMENT
    return pieces


def _numpy(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype


def _cut(buffer: np.ndarray, piece: _Piece) -> Tensor:
    return torch.from_numpy(buffer[piece.start : piece.stop].view(piece.dtype).reshape(piece.shape))


def checksum_of(bytes_N: np.ndarray) -> int:
    """Of uint8."""
    return xxhash.xxh3_64_intdigest(bytes_N)


def _write(file: int, buffer: np.ndarray, offset: int) -> None:
    left = memoryview(buffer)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


@contextmanager
def _told(disk: Disk) -> Iterator[None]:
    """Errors of the disk as messages for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise InvalidData(
                f"data.cache: {disk.folder} is full ({error.strerror}): {readable(disk.used)} of the cache are in it, and"
                f" {readable(free(disk.folder))} are free. Name a larger volume in data.cache.path, or take more workers"
            ) from error
        if error.errno in UNUSABLE:
            raise InvalidData(f"data.cache: no file can be made in {disk.folder}: {error.strerror}") from error
        raise CacheLost(f"the cache of rows in {disk.folder} failed: {error.strerror}") from error


def free(folder: Path) -> int:
    """Bytes that this user may still write there."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
