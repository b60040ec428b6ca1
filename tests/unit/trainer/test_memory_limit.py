"""Memory comes from what the process may use, and rows that need more of it go to the disk."""

from pathlib import Path

import pytest
import torch

from scalejob.api.v1alpha1 import Cache, CacheMode, Pca, Prepare, Scale
from scaletrain import memory_limit
from scaletrain.data import room
from scaletrain.data.blocks import MEMORY
from scaletrain.data.room import Need, Surroundings, room_for
from scaletrain.data.table import Columns
from tests.unit.trainer.test_threads import write

ALONE = Surroundings(processes=1, ranks_here=1)


@pytest.mark.parametrize(
    ("files", "membership", "want"),
    [
        ({"memory.max": "1000\n"}, "0::/\n", 500),
        ({"a/b/memory.max": "max\n", "a/memory.max": "800\n"}, "0::/a/b\n", 400),
        ({"memory/memory.limit_in_bytes": "600\n"}, "4:memory:/host/path\n", 300),
        (
            {"memory/x/memory.limit_in_bytes": "9223372036854771712", "memory/memory.limit_in_bytes": "200"},
            "4:memory:/x\n",
            100,
        ),
    ],
    ids=["v2", "v2, limit of the parent", "v1 in a container", "v1, limit of the parent"],
)
def test_the_limit_is_shared_by_the_processes(
    tmp_path: Path, files: dict[str, str], membership: str, want: int
) -> None:
    """In either version of control groups; two processes get half each."""
    write(tmp_path, {**files, "membership": membership})
    assert memory_limit.share(2, 1, tmp_path, tmp_path / "membership") == want


def test_without_a_limit_the_ranks_share_the_machine(tmp_path: Path) -> None:
    """Three ranks of one job on it get a third each."""
    whole, third = (memory_limit.share(1, ranks, tmp_path, tmp_path / "none") for ranks in (1, 3))
    assert whole // 3 == third > 0


def test_rows_are_counted_as_read_and_as_prepared() -> None:
    """float64 columns become float32 when they are standardised, and as many as there are components."""
    columns = Columns(features=("a", "b", "c"), is_single=False, are_named=True)
    assert Need.of(10, columns, Prepare()) == Need(as_read=10 * (24 + 3 * 8), prepared=0)
    changed = Need.of(10, columns, Prepare(scale=Scale.STANDARD, pca=Pca(components=2)))
    assert changed == Need(as_read=10 * (24 + 3 * 8), prepared=10 * (24 + 2 * 4))


@pytest.mark.parametrize(
    ("mode", "total", "is_cached"),
    [
        (CacheMode.AUTO, 1 << 10, False),
        (CacheMode.AUTO, 1 << 50, True),
        (CacheMode.NEVER, 1 << 50, False),
        (CacheMode.ALWAYS, 1 << 10, True),
    ],
)
def test_rows_that_do_not_fit_go_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: CacheMode, total: int, is_cached: bool
) -> None:
    """By themselves, or because the user says so."""
    monkeypatch.setattr("scaletrain.data.room.free", lambda folder: 1 << 60)
    cache = Cache(mode=mode, path=str(tmp_path))
    room = room_for(Need(as_read=total, prepared=0), cache, ALONE, torch.device("cpu"))
    assert (room is not MEMORY) == is_cached


@pytest.mark.parametrize(("limit", "want"), [(256 << 20, 0), (1 << 30, 256 << 20), (8 << 30, 15 << 28)])
def test_half_of_what_the_process_leaves_is_for_blocks(monkeypatch: pytest.MonkeyPatch, limit: int, want: int) -> None:
    """Of rows on the disk; nothing where the process needs it all."""
    monkeypatch.setattr(memory_limit, "share", lambda processes, ranks_here: limit // processes)
    assert room._kept(ALONE) == want
