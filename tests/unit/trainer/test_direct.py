"""A file is read past the page cache where the system can, else through it; the bytes are the same."""

import errno
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from scaletrain.data.blocks import Block, Blocks
from scaletrain.data.cache import BlockFile, Disk
from scaletrain.data.direct import ALIGNMENT, HUGE_PAGE, READY_BYTES, Buffers, TwoWays, aligned_buffer
from tests.unit.trainer.test_cache import CPU, on_disk

CONTENT = bytes(range(256)) * (3 * ALIGNMENT // 256)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def place_of(buffer: np.ndarray) -> int:
    return buffer.ctypes.data


def opened(path: Path) -> TwoWays:
    with path.open("rb") as stream:
        return TwoWays(stream.fileno())


@pytest.mark.parametrize("is_kept", [True, False])
def test_both_ways_give_the_same_bytes(file: Path, is_kept: bool) -> None:
    """From any aligned place; and the end of the file is told."""
    ways, buffer = opened(file), aligned_buffer(ALIGNMENT + 1)
    assert ways.fill(buffer, ALIGNMENT, is_kept=is_kept)
    assert buffer.tobytes() == CONTENT[ALIGNMENT:]
    assert not ways.fill(buffer, 2 * ALIGNMENT, is_kept=is_kept)


def test_a_file_system_without_direct_reads(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses to open the file so."""

    def refuse(*args: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "open", refuse)
    ways, buffer = opened(file), aligned_buffer(len(CONTENT))
    assert ways.fill(buffer, 0, is_kept=False)
    assert buffer.tobytes() == CONTENT


def test_a_disk_with_a_larger_alignment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses the read, and is not asked again."""
    refused, read = [], os.preadv
    ways = opened(file)

    def refuse(descriptor: int, *rest: object) -> int:
        if descriptor == ways.through:
            return read(descriptor, *rest)  # type: ignore[arg-type]
        refused.append(descriptor)
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "preadv", refuse)
    for _ in range(2):
        buffer = aligned_buffer(len(CONTENT))
        assert ways.fill(buffer, 0, is_kept=False)
        assert buffer.tobytes() == CONTENT
    assert len(refused) == 1


@pytest.mark.parametrize(("kept", "want"), [(0, 0), (30, 3), (50, 5), (1000, 10)])
def test_an_even_share_of_the_blocks_is_kept(tmp_path: Path, kept: int, want: int) -> None:
    """As many as there is room for; `kept`: in percent of the file."""
    one = Block(row_N=torch.arange(9), X_ND=torch.ones(9, 2))
    store = BlockFile(Disk(folder=tmp_path, limit=1 << 30, kept=kept * ALIGNMENT // 10), CPU)
    for _ in range(10):
        store.append(one)
    places = [i for i in range(10) if store._is_kept(i)]
    assert len(places) == want
    assert len({after - before for before, after in pairwise(places)}) <= 2


@pytest.mark.parametrize("length", [1, ALIGNMENT + 1, HUGE_PAGE - 1, HUGE_PAGE + 1])
def test_buffers_are_aligned(length: int) -> None:
    """Their beginning and their length, with and without huge pages."""
    buffer = Buffers().take(length)
    assert place_of(buffer) % ALIGNMENT == len(buffer) % ALIGNMENT == 0
    assert length <= len(buffer) < length + ALIGNMENT


def test_a_buffer_is_used_again_when_nobody_sees_it() -> None:
    """Not before the last view of it is gone; one that is too short is given back."""
    buffers = Buffers()
    first = buffers.take(HUGE_PAGE)
    view, place = torch.from_numpy(first)[:8].view(torch.int64), place_of(first)
    del first
    assert place_of(buffers.take(HUGE_PAGE)) != place
    assert len(buffers._ready) == 1
    del view
    assert {place_of(buffers.take(HUGE_PAGE - 1)) for _ in range(3)} == {place}
    assert len(buffers.take(3 * HUGE_PAGE)) == 3 * HUGE_PAGE
    assert len(buffers._ready) == 1


def test_few_buffers_wait_to_be_used_again() -> None:
    """Memory that a pass took is there for others after it."""
    buffers = Buffers()
    taken = [buffers.take(READY_BYTES // 2) for _ in range(4)]
    del taken
    assert len(buffers._ready) == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_large_blocks_keep_their_values_while_others_are_read(tmp_path: Path, threads: int) -> None:
    """Their memory is used again for later blocks, but not while somebody has a piece of it."""
    X_BND = torch.randn((20, 4096, 64), generator=torch.Generator().manual_seed(1))
    rows = torch.arange(20 * 4096).view(20, -1)
    memory = [Block(row_N=row_N, X_ND=X_ND) for row_N, X_ND in zip(rows, X_BND, strict=True)]
    assert X_BND[0].nbytes >= HUGE_PAGE // 2
    blocks = Blocks(blocks=memory, num_rows=rows.numel(), num_features=64, num_blocks=20, threads=threads)
    with on_disk(tmp_path, blocks) as stored:
        kept = [block.X_ND[::2] for block in stored.map(lambda block: block)]
        for _ in range(2):
            assert list(stored.map(lambda block: float(block.X_ND.sum()))) == [float(X_ND.sum()) for X_ND in X_BND]
    assert all(torch.equal(part, X_ND[::2]) for part, X_ND in zip(kept, X_BND, strict=True))
