"""How ranks learn that one of them is stopped: nothing of it fails, it only falls silent."""

import queue
import threading

import pytest

from scaletrain import rendezvous
from scaletrain.rank import Rank
from scaletrain.rendezvous import Cause, Meeting
from tests.dist.world import free_port


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of silence is enough."""
    monkeypatch.setattr(rendezvous, "TICK_SECONDS", 0.1)
    monkeypatch.setattr(rendezvous, "SILENT_TICKS", 8)
    monkeypatch.setattr(rendezvous, "FAREWELL_SECONDS", 0.1)


def meeting_of(rank: int, port: int, *, hosts: bool) -> Meeting:
    """A rank of two that have already met."""
    me = Rank(rank=rank, world_size=2, master_addr="127.0.0.1", master_port=port, hosts_store=hosts)
    meeting = Meeting(me, rendezvous._connect(me, 5), num_gpus=0)
    meeting.store.add(f"beat/{rank}", 0)
    return meeting


def test_a_peer_that_falls_silent_is_named_to_all() -> None:
    """By rank 0, which sees that its beats have ceased, though its connection is open."""
    heard: queue.Queue[Cause] = queue.Queue()
    first = meeting_of(0, free_port(), hosts=True)
    first.store.add("beat/1", 1)
    first.watch(heard.put, threading.Event())
    assert "rank 1 gave no sign of life" in (heard.get(timeout=5).word.message or "")
    assert b"rank 1 gave no sign of life" in first.store.get("alarm")


def test_ranks_that_beat_are_left_alone() -> None:
    """However long a step takes."""
    heard: queue.Queue[Cause] = queue.Queue()
    port = free_port()
    meetings = [meeting_of(0, port, hosts=True), meeting_of(1, port, hosts=False)]
    for meeting in meetings:
        meeting.watch(heard.put, threading.Event())
    with pytest.raises(queue.Empty):
        heard.get(timeout=1.3)
    for meeting in meetings:
        meeting._stop.set()


def test_the_wish_of_a_rank_to_end_reaches_rank_0() -> None:
    """Which alone can save the state of the fit."""
    port = free_port()
    meetings = [meeting_of(0, port, hosts=True), meeting_of(1, port, hosts=False)]
    wishes = [threading.Event(), threading.Event()]
    for meeting, wished in zip(meetings, wishes, strict=True):
        meeting.watch(lambda cause: None, wished)
    assert not wishes[0].wait(0.3)
    wishes[1].set()
    assert wishes[0].wait(5)
    for meeting in meetings:
        meeting._stop.set()
