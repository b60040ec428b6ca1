"""However a job ends, all its ranks end, soon, and their last words lead to the cause."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import scaletrain
from scaletrain import rendezvous
from scaletrain.rank import Rank
from scaletrain.rendezvous import Cause, Meeting
from tests.dist.world import free_port, run, running

HOST = """
import sys, time
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", int(sys.argv[1]), is_master=True, wait_for_workers=False)
print("listens", flush=True)
while True:
    store.add("job/0/0/beat/0", 1)
    time.sleep(0.01)
"""

DIES_WHEN_RANKS_CONNECT = """
import os, signal
if os.environ.get("RANK") == "1":
    import torch.distributed
    torch.distributed.init_process_group = lambda *given, **named: os.kill(os.getpid(), signal.SIGKILL)
"""

IS_TOLD_WHEN_ALL_IS_DONE = """
import os, signal, time
from scaletrain.rendezvous import Meeting
part = Meeting.part
def told(meeting):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.5)
    part(meeting)
Meeting.part = told
"""

CLASSES = {"synthetic": {"classification": {"rows": 2000, "features": 5}}}


def job(folder: Path, *, rows: int = 200_000, restarts: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "workload": {"kmeans": {"clusters": 2, "restarts": restarts}},
        "data": {"synthetic": {"blobs": {"rows": rows, "features": 4}}},
        "output": {"uri": str(folder / "model")},
        **more,
    }


@pytest.mark.parametrize(
    ("number", "rank", "exit_code", "words"),
    [
        (signal.SIGKILL, 0, -9, ""),
        (signal.SIGKILL, 2, -9, ""),
        (signal.SIGTERM, 0, 143, "rank 0 failed: Terminated: ended by signal 15"),
        (signal.SIGTERM, 1, 143, "rank 1 failed: Terminated: ended by signal 15"),
    ],
    ids=["kill rank 0", "kill rank 2", "terminate rank 0", "terminate rank 1"],
)
def test_a_rank_that_is_gone_ends_the_others(
    tmp_path: Path, number: int, rank: int, exit_code: int, words: str
) -> None:
    """Within ten seconds, in the middle of the fit; the others say that they lost a peer, and what it said if it could."""
    with running(job(tmp_path, restarts=1000), workers=3) as world:
        world.wait_for_progress("fit", step=2)
        world.processes[rank].send_signal(number)
        ends = world.wait(timeout=10)
    assert ends[rank].exit_code == exit_code
    for end in ends[:rank] + ends[rank + 1 :]:
        assert (end.exit_code, end.word and end.word.error) == (1, "PeerLost"), end.stderr
        assert words in ((end.word and end.word.message) or "")


def test_a_rank_that_dies_while_all_connect_is_noticed(tmp_path: Path) -> None:
    """The main threads of the others wait for its address, for hours, and hold their connections to the store."""
    (tmp_path / "sitecustomize.py").write_text(DIES_WHEN_RANKS_CONNECT)
    ends = run(job(tmp_path), workers=3, env={"PYTHONPATH": str(tmp_path)}, timeout=60)
    assert [end.exit_code for end in ends] == [1, -signal.SIGKILL, 1], ends
    for end in (ends[0], ends[2]):
        assert "rank 1 gave no sign of life" in ((end.word and end.word.message) or "")


def test_a_signal_that_comes_when_the_model_is_complete_does_no_harm(tmp_path: Path) -> None:
    """The ranks are about to part. An attempt that failed now would be made again for nothing."""
    (tmp_path / "sitecustomize.py").write_text(IS_TOLD_WHEN_ALL_IS_DONE)
    ends = run(job(tmp_path, rows=1000), workers=2, env={"PYTHONPATH": str(tmp_path)}, timeout=60)
    assert [end.exit_code for end in ends] == [0, 0], ends
    assert ends[0].word is not None
    assert ends[0].word.model_sha256 is not None


def test_a_stopped_rank_0_is_noticed_though_its_store_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host is alive for the kernel, so that every operation of the store waits for ever."""
    monkeypatch.setattr(rendezvous, "TICK_SECONDS", 0.1)
    monkeypatch.setattr(rendezvous, "SILENT_TICKS", 20)
    port = free_port()
    heard: queue.Queue[Cause] = queue.Queue()
    with subprocess.Popen([sys.executable, "-c", HOST, str(port)], stdout=subprocess.PIPE) as host:
        try:
            assert host.stdout is not None
            host.stdout.readline()
            rank = Rank(rank=1, world_size=2, master_addr="127.0.0.1", master_port=port)
            Meeting(rank, *rendezvous._connections(rank, 5), num_gpus=0).watch(heard.put, threading.Event())
            with pytest.raises(queue.Empty):
                heard.get(timeout=1)
            host.send_signal(signal.SIGSTOP)
            assert "rank 0 gave no sign of life" in (heard.get(timeout=10).word.message or "")
        finally:
            host.kill()


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


def test_a_fit_that_did_not_converge_is_told(tmp_path: Path) -> None:
    """On standard error, once, with what helps; a model that is as it should be needs no word."""
    ends = run(job(tmp_path, workload={"svm": {"maxIterations": 1}}, data=CLASSES), workers=2)
    warning = "scaletrain: warning: the tolerance was not reached: raise maxIterations"
    assert [end.stderr.count(warning) for end in ends] == [1, 0], ends
    assert "warning" not in run(job(tmp_path, workload={"svm": {}}, data=CLASSES), workers=1)[0].stderr


def test_torchrun_starts_the_ranks_of_a_worker(tmp_path: Path) -> None:
    """With its own names for rank and meeting place."""

    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    env = {**os.environ, "SCALEJOB_SPEC": json.dumps(job(tmp_path, rows=40_000))}
    done = subprocess.run([*command, "-m", "scaletrain"], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / "_SUCCESS").exists()
