"""Reads of a file that go past the page cache of the kernel, or through it.

In a file that is larger than memory and read from end to end again and again, each page that a pass brings into the page cache is
gone before the next pass comes to it. To find a page to replace, fill the new one and copy it takes time of a core for nothing, and
pages of other files that are used all the time have to make room.
"""

import errno
import os
import weakref

import torch
from torch import Tensor

ALIGNMENT = 4096  # of the place in the file, of the buffer and of its length: of each disk that is known


def aligned(length: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-length // ALIGNMENT) * ALIGNMENT


def aligned_buffer(length: int) -> Tensor:
    """uint8 of at least that length, without values, for a read past the cache."""
    buffer = torch.empty(aligned(length) + ALIGNMENT, dtype=torch.uint8)
    start = -buffer.data_ptr() % ALIGNMENT
    return buffer[start : start + aligned(length)]


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

    def fill(self, buffer: Tensor, offset: int, *, is_kept: bool) -> bool:
        """Whether the file has enough to fill an aligned buffer. `is_kept`: through the cache, to be found there the next time."""
        if self._past is None or is_kept:
            return _fill(self.through, buffer, offset)
        try:
            return _fill(self._past, buffer, offset)
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


def _fill(file: int, buffer: Tensor, offset: int) -> bool:
    left = memoryview(buffer.numpy())
    while left:
        num_read = os.preadv(file, [left], offset)
        if num_read == 0:
            return False
        left, offset = left[num_read:], offset + num_read
    return True
