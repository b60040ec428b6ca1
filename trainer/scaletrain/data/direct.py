"""Reads of a file that go past the page cache of the kernel, or through it.

In a file that is larger than memory and read from end to end again and again, each page that a pass brings into the page cache is
gone before the next pass comes to it. To find a page to replace, fill the new one and copy it takes time of a core for nothing, and
pages of other files that are used all the time have to make room.

Such a read goes straight to the pages of its buffer, and the disk is told where each run of them is. In huge pages a megabyte is one
run and not 256: measured on a virtual disk, that is up to three times the bytes in a second, for a third of the processor's time.
"""

import errno
import mmap
import os
import weakref
from collections import deque
from contextlib import suppress

import numpy as np

ALIGNMENT = 4096  # of the place in the file, of the buffer and of its length: of each disk that is known
HUGE_PAGE = 2 << 20  # of x86-64, and of AArch64 with pages of 4 KiB
READY_BYTES = 32 << 20  # of buffers that wait to be used again; more are given back to the system


def aligned(length: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-length // ALIGNMENT) * ALIGNMENT


def aligned_buffer(length: int) -> np.ndarray:
    """uint8 of at least that length, without values, for a read past the cache."""
    return _cut(np.empty(aligned(length) + ALIGNMENT, dtype=np.uint8), ALIGNMENT, length)


class Buffers:
    """Aligned buffers in huge pages, where the system has some. Each is used again and again: a new page has to be found and filled
    with zeros, which takes longer than to read it from a fast disk.
    """

    def __init__(self) -> None:
        self._ready: deque[mmap.mmap] = deque()
        self._length = 0  # of new ones: what are read of a file are records of one length, but for a few

    def take(self, length: int) -> np.ndarray:
        """As `aligned_buffer`. It is ready for the next one as soon as neither the array nor a view of it is left."""
        if length < HUGE_PAGE // 2:
            return aligned_buffer(length)
        self._length = max(self._length, -(-length // HUGE_PAGE) * HUGE_PAGE)
        pages = self._ready_one(length) or _huge_pages(self._length)
        array = np.frombuffer(pages, dtype=np.uint8)  # the base of all views
        weakref.finalize(array, self._keep, pages).atexit = False
        return _cut(array, HUGE_PAGE, length)

    def _keep(self, pages: mmap.mmap) -> None:
        if (len(self._ready) + 1) * (len(pages) - HUGE_PAGE) <= READY_BYTES:
            self._ready.append(pages)

    def _ready_one(self, length: int) -> mmap.mmap | None:
        with suppress(IndexError):
            while len(pages := self._ready.pop()) < length + HUGE_PAGE:
                pass  # is given back
            return pages
        return None


def _huge_pages(length: int) -> mmap.mmap:
    """And one more, for the alignment, which takes no memory while nothing is written there."""
    pages = mmap.mmap(-1, length + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError, AttributeError):  # of a kernel without them; of a system that is not Linux
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def _cut(memory: np.ndarray, alignment: int, length: int) -> np.ndarray:
    start = -memory.__array_interface__["data"][0] % alignment
    return memory[start : start + aligned(length)]


class TwoWays:
    """An open file. Where the system cannot read it past the cache, all reads go through it."""

    def __init__(self, file: int) -> None:
        """`file`: a descriptor, of which a duplicate is kept."""
        self.through = os.dup(file)
        weakref.finalize(self, os.close, self.through)
        self._past = _opened_past_the_cache(file)
        if self._past is not None:
            weakref.finalize(self, os.close, self._past)
            # Else a read through the cache brings along what lies behind it, which is not to be kept.
            os.posix_fadvise(self.through, 0, 0, os.POSIX_FADV_RANDOM)

    def fill(self, buffer: np.ndarray, offset: int, *, is_kept: bool) -> bool:
        """Whether the file has enough to fill an aligned buffer. `is_kept`: through the cache, to be found there the next time."""
        past = self._past  # once: another thread may find out meanwhile that it does not work
        if past is None or is_kept:
            return _fill(self.through, buffer, offset)
        try:
            return _fill(past, buffer, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._past = None  # a disk with a larger alignment
            return _fill(self.through, buffer, offset)


def _opened_past_the_cache(file: int) -> int | None:
    try:
        return os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_DIRECT)
    except (OSError, AttributeError):  # of the file system; of a system that is not Linux
        return None


def _fill(file: int, buffer: np.ndarray, offset: int) -> bool:
    left = memoryview(buffer)
    while left:
        num_read = os.preadv(file, [left], offset)
        if num_read == 0:
            return False
        left, offset = left[num_read:], offset + num_read
    return True
