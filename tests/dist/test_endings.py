"""However a job ends, all its ranks end, soon, and their last words lead to the cause."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import scaletrain
from tests.dist.world import free_port, run, running


def job(folder: Path, *, rows: int = 200_000, restarts: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "workload": {"kmeans": {"clusters": 2, "restarts": restarts}},
        "data": {"synthetic": {"blobs": {"rows": rows, "features": 4}}},
        "output": {"uri": str(folder / "model")},
        **more,
    }


@pytest.mark.parametrize(
    ("number", "rank", "exit_code"),
    [(signal.SIGKILL, 0, -9), (signal.SIGKILL, 2, -9), (signal.SIGTERM, 1, 143)],
    ids=["kill rank 0", "kill rank 2", "terminate rank 1"],
)
def test_a_rank_that_is_gone_ends_the_others(tmp_path: Path, number: int, rank: int, exit_code: int) -> None:
    """Within ten seconds, in the middle of the fit; the others say that they lost a peer."""
    with running(job(tmp_path, restarts=1000), workers=3) as world:
        world.wait_for_progress("fit", step=2)
        world.processes[rank].send_signal(number)
        ends = world.wait(timeout=10)
    assert ends[rank].exit_code == exit_code
    for end in ends[:rank] + ends[rank + 1 :]:
        assert (end.exit_code, end.word and end.word.error) == (1, "PeerLost"), end.stderr


def test_ranks_that_do_not_come_are_named(tmp_path: Path) -> None:
    """By those that came, when the time is up."""
    spec = job(tmp_path, rendezvous={"timeoutSeconds": 5})
    started = time.monotonic()
    ends = run(spec, workers=2, env={"WORLD_SIZE": "4"})
    assert time.monotonic() - started < 30
    words = {(end.exit_code, end.word and end.word.reason, end.word and end.word.message) for end in ends}
    assert words == {(1, "RendezvousTimeout", "2 of 4 ranks did not come within 5 s: 2, 3")}


def test_ranks_without_rows_take_part(tmp_path: Path) -> None:
    """Ten rows are one block, so three of four ranks have none; rank 0 tells the result, the model loads."""
    ends = run(job(tmp_path, rows=10), workers=4)
    assert [end.exit_code for end in ends] == [0, 0, 0, 0], ends[0].stderr
    assert ends[0].word is not None
    assert (ends[0].word.rows, ends[0].word.features) == (10, 4)
    assert [line.phase for line in ends[0].progress if line.step == 0] == ["data", "prepare", "fit", "evaluate", "save"]
    assert scaletrain.load(tmp_path / "model").cluster_centers_.shape == (2, 4)


def test_torchrun_starts_the_ranks_of_a_worker(tmp_path: Path) -> None:
    """With its own names for rank and meeting place."""

    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    env = {**os.environ, "SCALEJOB_SPEC": json.dumps(job(tmp_path, rows=40_000))}
    done = subprocess.run([*command, "-m", "scaletrain"], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / "_SUCCESS").exists()
