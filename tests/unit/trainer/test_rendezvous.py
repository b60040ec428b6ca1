"""How ranks learn that one of them is stopped: nothing of it fails, it only falls silent."""

import queue
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from scalejob.contract import LastWord
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


def meeting_of(rank: int, port: int, *, hosts: bool, size: int = 2) -> Meeting:
    """A rank of some that have already met."""
    me = Rank(rank=rank, world_size=size, master_addr="127.0.0.1", master_port=port, hosts_store=hosts)
    meeting = Meeting(me, *rendezvous._connections(me, 5), num_gpus=0)
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


def slowly(act: Callable[[str], Cause]) -> Callable[[str], Cause]:
    def later(text: str) -> Cause:
        time.sleep(0.2)
        return act(text)

    return later


@pytest.mark.parametrize("sounder", [0, 1])
def test_rank_0_stays_until_all_others_know_why(monkeypatch: pytest.MonkeyPatch, sounder: int) -> None:
    """Its store ends with it: who has not looked yet would only learn that rank 0 is gone. Who tells need not be told."""
    monkeypatch.setattr(rendezvous, "FAREWELL_SECONDS", 5)
    monkeypatch.setattr(rendezvous, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(rendezvous, "SILENT_TICKS", 1000)
    monkeypatch.setattr(Cause, "decode", slowly(Cause.decode))  # time enough for who tells to hear itself
    port = free_port()
    meetings = [meeting_of(rank, port, hosts=rank == 0, size=3) for rank in range(3)]
    ended: queue.Queue[int] = queue.Queue()
    for rank in (0, 1):
        meetings[rank].watch(lambda cause, rank=rank: ended.put(rank), threading.Event())
    telling = threading.Thread(target=lambda: meetings[sounder].sound_alarm(rendezvous.lost(2, "fails")))
    telling.start()
    if sounder == 0:
        assert ended.get(timeout=5) == 1
        assert telling.is_alive()
    with pytest.raises(queue.Empty):
        ended.get(timeout=0.5)
    meetings[2].watch(lambda cause: ended.put(2), threading.Event())
    want = {2} if sounder == 0 else {2, 0}
    assert {ended.get(timeout=4) for _ in want} == want
    telling.join(5)


@pytest.mark.parametrize("leaver", [0, 1])
def test_the_last_word_of_a_rank_that_ends_on_a_signal_is_heard(leaver: int) -> None:
    """At once, though its main thread waits for rank 0, or for nobody, and holds its connection to the store."""
    port = free_port()
    meetings = [meeting_of(rank, port, hosts=rank == 0) for rank in range(2)]
    heard: queue.Queue[Cause] = queue.Queue()
    for meeting in meetings:
        meeting.watch(heard.put, threading.Event())
    waiting = threading.Thread(target=meetings[leaver].store.wait, args=(["enough"], timedelta(seconds=30)))
    waiting.start()
    meetings[leaver].announce_end(LastWord(rank=leaver, error="Terminated", message="ended by signal 15"))
    cause = heard.get(timeout=0.7)
    assert (cause.word.rank, cause.word.error, cause.exit_code) == (leaver, "Terminated", 1)
    with pytest.raises(queue.Empty):  # who tells need not be told
        heard.get(timeout=0.3)
    meetings[1 - leaver].store.set("enough", "1")
    waiting.join(5)


def test_the_last_word_is_not_waited_for_if_rank_0_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is stopped takes connections all the same."""
    meeting = meeting_of(0, free_port(), hosts=True)
    monkeypatch.setattr(meeting, "sound_alarm", lambda cause: threading.Event().wait())
    began = time.monotonic()
    meeting.announce_end(LastWord(rank=0))
    assert time.monotonic() - began < 1


def test_a_name_server_that_does_not_answer_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch asks it with each connection, so there is none while ranks listen for each other."""
    port = free_port()
    meetings = [meeting_of(rank, port, hosts=rank == 0) for rank in range(2)]
    heard: queue.Queue[Cause] = queue.Queue()
    monkeypatch.setattr(rendezvous.TCPStore, "clone", lambda store: threading.Event().wait())
    monkeypatch.setattr(rendezvous, "_connect", lambda *_: threading.Event().wait())
    for meeting in meetings:
        meeting.watch(heard.put, threading.Event())
    with pytest.raises(queue.Empty):
        heard.get(timeout=2)
    for meeting in meetings:
        meeting._stop.set()
