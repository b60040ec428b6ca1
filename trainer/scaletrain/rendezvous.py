"""How the ranks of an attempt find each other, and how they learn that one of them failed.

Both go through one key-value store (torch's TCPStore, in rank 0):

    here/<rank>     this rank has come        arrived, gpus   how many have, how many with a GPU of their own
    complete        the last one has come, or somebody gave up waiting
    end             a rank is to end soon: rank 0 may save the state first
    alarm           why the job fails: the first word counts      heard/<rank>    this rank knows
    done            rank 0 has finished       left            how many know
    beat/<rank>     how often this rank has looked for the alarm

A collective that waits for a dead or failed rank would hang until its time-out. So each rank has a thread that looks for
the alarm, and the process ends when it sounds, whatever the main thread is doing. It is sounded by a rank that fails, and by one
that ends on a signal, which those that wait for nobody would not miss for long. A rank that is killed or stopped, or whose
node is cut off, sounds no alarm: rank 0 sounds it when the beats of another rank cease, and the others end when rank 0 does
not answer. Not noticed: a rank that is alive but makes no progress; its collective's time-out ends that.
"""

import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import DistNetworkError, DistStoreError, PrefixStore, Store, TCPStore

from scalejob.contract import NO_SIGN_OF_LIFE, LastWord

from .errors import PeerLost, RendezvousTimeout, TrainerError
from .rank import Rank

# How long rank 0 stays after its end, so that the others can hear of it.
FAREWELL_SECONDS = 3.0
# The least time between two ticks; in large worlds more, so that rank 0 answers at most 1,000 a second.
TICK_SECONDS = 0.5
# After so many ticks without a beat a rank is given up, so that all ranks end within 10 s of its stop, or of its death while
# nobody waits for it; on a busy machine ticks take half as long again. Counted in ticks of the watcher, not read from a clock:
# for a process that was stopped itself, together with all others, no time has passed; and a watcher that gets no CPU gives
# those time that get none either. A thread beats twice a second unless the process is stopped or a call holds the
# interpreter's lock; the longest such calls of the trainer are far shorter (docs/decisions/0013).
SILENT_TICKS = 10
FOREVER = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why the job fails: the last word of the rank that failed first, and its exit code."""

    word: LastWord
    exit_code: int

    def encode(self) -> str:
        return f"{self.exit_code} {self.word.to_json()}"

    @classmethod
    def decode(cls, text: str) -> "Cause":
        code, _, word = text.partition(" ")
        return cls(word=LastWord.from_json(word) or LastWord(rank=-1), exit_code=int(code))


class Meeting:
    """The store of one attempt, seen from one rank, after all ranks have come."""

    def __init__(self, rank: Rank, store: Store, aside: Store, num_gpus: int) -> None:
        """`aside`: a connection for all but the main thread, whose own one may be blocked in `wait`."""
        self.store = store
        self.num_gpus = num_gpus
        self._rank = rank
        self._aside = aside
        self._stop = threading.Event()
        self._tells = threading.Event()  # this rank sounds the alarm itself: it need not hear of it
        self._wished = threading.Event()
        self._beat_of_rank_0 = -1
        self._silent_ticks = 0  # since rank 0 was heard

    def watch(self, on_alarm: Callable[[Cause], None], wished: threading.Event) -> None:
        """Calls `on_alarm`, from a thread of its own, when another rank fails, or when one is gone or silent.

        `wished`: this rank is to end soon. Where it is set, it gets set on rank 0 too.
        """
        self._wished = wished
        for task in (self._look, self._watch_peers if self._rank.is_first else self._watch_rank_0):
            threading.Thread(target=task, args=(on_alarm,), name="alarm", daemon=True).start()

    def sound_alarm(self, cause: Cause, *, silent: Collection[int] = ()) -> Cause:
        """Tells all ranks, unless somebody was first, from any thread. Returns the cause that counts.

        Rank 0 waits until all others know, but for the `silent`, which never will.
        """
        self._tells.set()
        try:
            first = Cause.decode(self._aside.compare_set("alarm", "", cause.encode()).decode())
            self._aside.set(f"heard/{self._rank.rank}", "1")
        except (DistStoreError, DistNetworkError):
            return cause  # rank 0 is gone, the others see that too
        self._stop.set()
        if self._rank.is_first:
            self._wait_until_heard(silent)
        return first

    def announce_end(self, word: LastWord) -> None:
        """Sounds the alarm for a rank that ends on a signal: where nobody waits for it, silence alone would tell of it.

        Returns after FAREWELL_SECONDS at most: the store does not answer if rank 0 is stopped. The others fail as on any loss
        of a peer, not with the code of a signal that they did not get.
        """
        cause = Cause(word=word, exit_code=1)
        telling = threading.Thread(target=self.sound_alarm, args=(cause,), name="last word", daemon=True)
        telling.start()
        telling.join(FAREWELL_SECONDS)

    def _wait_until_heard(self, silent: Collection[int] = ()) -> None:
        """The store, where others have yet to hear of the alarm, ends with this process."""
        ranks = [rank for rank in range(1, self._rank.world_size) if rank not in silent]
        until = time.monotonic() + FAREWELL_SECONDS
        while ranks and time.monotonic() < until and not self._aside.check([f"heard/{rank}" for rank in ranks]):
            time.sleep(self._tick_seconds / 50)

    @property
    def _tick_seconds(self) -> float:
        """Between two beats, and two looks for the alarm and at the beats of others."""
        return max(TICK_SECONDS, self._rank.world_size / 1000)

    def part(self) -> None:
        """Returns when rank 0 is here too. Rank 0 stays until the others know, because the store ends with it."""
        if self._rank.is_first:
            self.store.set("done", "1")
            self._stop.set()
            _wait_for_count(self.store, "left", self._rank.world_size - 1)
        else:
            self._wait_for("done")
            self._stop.set()
            self.store.add("left", 1)

    def _wait_for(self, key: str) -> None:
        try:
            self.store.wait([key], FOREVER)
        except (DistStoreError, DistNetworkError) as error:
            raise PeerLost("rank 0 ended before the model was complete") from error

    def _look(self, on_alarm: Callable[[Cause], None]) -> None:
        cause = self._wait_for_alarm()
        if cause is None or self._tells.is_set() or self._stop.is_set():
            return
        if self._rank.is_first:
            with suppress(DistStoreError, DistNetworkError):
                self._wait_until_heard()
        on_alarm(cause)

    def _wait_for_alarm(self) -> Cause | None:
        try:
            while not self._stop.wait(self._tick_seconds):
                self._aside.add(f"beat/{self._rank.rank}", 1)
                self._hear_rank_0(self._aside.add("beat/0", 0))
                self._pass_on_wish()
                if self._aside.check(["alarm"]):
                    cause = Cause.decode(self._aside.get("alarm").decode())
                    self._aside.set(f"heard/{self._rank.rank}", "1")
                    return cause
        except (DistStoreError, DistNetworkError):
            return lost(0, "is gone: its process or node has ended")
        return None

    def _pass_on_wish(self) -> None:
        if self._rank.is_first and self._aside.check(["end"]):
            self._wished.set()
        elif self._wished.is_set():
            self._aside.set("end", "1")

    def _hear_rank_0(self, beat: int) -> None:
        if beat != self._beat_of_rank_0:
            self._beat_of_rank_0, self._silent_ticks = beat, 0

    def _watch_rank_0(self, on_alarm: Callable[[Cause], None]) -> None:
        """Without the store, whose operations never return while its host is stopped."""
        while not self._stop.wait(self._tick_seconds):
            self._silent_ticks += 1
            if self._silent_ticks > SILENT_TICKS:
                on_alarm(silent(0, self._tick_seconds))
                return

    def _watch_peers(self, on_alarm: Callable[[Cause], None]) -> None:
        peers = range(1, self._rank.world_size)
        with suppress(DistStoreError, DistNetworkError):  # of a launcher that has ended: `_look` tells of that
            beats, ticks = [b""] * len(peers), [0] * len(peers)
            while not self._stop.wait(self._tick_seconds):
                before, beats = beats, self._aside.multi_get([f"beat/{rank}" for rank in peers])
                ticks = [0 if new != old else n + 1 for new, old, n in zip(beats, before, ticks, strict=True)]
                if max(ticks) > SILENT_TICKS:
                    cause = silent(peers[ticks.index(max(ticks))], self._tick_seconds)
                    quiet = [rank for rank, n in zip(peers, ticks, strict=True) if n > SILENT_TICKS / 2]
                    on_alarm(self.sound_alarm(cause, silent=quiet))
                    return


def lost(rank: int, how: str) -> Cause:
    word = LastWord(rank=rank, error=PeerLost.__name__, message=f"rank {rank} {how}")
    return Cause(word=word, exit_code=1)


def silent(rank: int, tick_seconds: float) -> Cause:
    seconds = tick_seconds * SILENT_TICKS
    return lost(rank, f"{NO_SIGN_OF_LIFE} for {seconds:g} s: its process is stopped, or its node is cut off")


def meet(rank: Rank, *, has_gpu: bool, timeout_seconds: float) -> Meeting:
    """Waits for all ranks. RendezvousTimeout names the missing ones."""
    until = time.monotonic() + timeout_seconds
    store, aside = _connections(rank, timeout_seconds)
    store.add("gpus", int(has_gpu))
    store.add(f"beat/{rank.rank}", 0)
    store.set(f"here/{rank.rank}", "1")
    if store.add("arrived", 1) == rank.world_size:
        store.set("complete", "1")
    try:
        store.wait(["complete"], timedelta(seconds=max(0.1, until - time.monotonic())))
    except DistStoreError:
        pass  # a time-out: the missing ranks are looked up below
    except DistNetworkError as error:
        raise PeerLost("rank 0 ended while the ranks were gathering") from error
    missing = _missing(rank, store)
    if missing:
        _tell_present(rank, store, num_present=rank.world_size - len(missing))
        listed = ", ".join(map(str, missing[:20])) + (", ..." if len(missing) > 20 else "")
        raise RendezvousTimeout(
            f"{len(missing)} of {rank.world_size} ranks did not come within {timeout_seconds:g} s: {listed}"
        )
    return Meeting(rank, store, aside, num_gpus=store.add("gpus", 0))


def _connections(rank: Rank, timeout_seconds: float) -> tuple[Store, Store]:
    """One for the main thread and one for the others, before the ranks begin to listen for each other: torch asks the DNS for
    the name of each peer that it connects to, and waits 5 s for a lost answer, which would be taken for silence."""
    tcp = _connect(rank, timeout_seconds)
    return PrefixStore(rank.namespace, tcp), PrefixStore(rank.namespace, tcp.clone())


def _connect(rank: Rank, timeout_seconds: float) -> TCPStore:
    is_host = rank.is_first and rank.hosts_store
    # Rank 0 need not wait for the DNS record of its own Pod.
    host = "localhost" if is_host else rank.master_addr
    try:
        return TCPStore(
            host,
            rank.master_port,
            is_master=is_host,
            timeout=timedelta(seconds=timeout_seconds),
            wait_for_workers=False,
        )
    except (DistNetworkError, DistStoreError) as error:
        if is_host:
            raise TrainerError(f"rank 0 cannot listen on port {rank.master_port}: {_first_line(error)}") from error
        raise RendezvousTimeout(
            f"rank 0 is missing: nothing answered at {rank.master_addr}:{rank.master_port} within {timeout_seconds:g} s"
        ) from error


def _missing(rank: Rank, store: Store) -> list[int]:
    if store.add("arrived", 0) == rank.world_size:
        return []
    return [r for r in range(rank.world_size) if not store.check([f"here/{r}"])]


def _tell_present(rank: Rank, store: Store, num_present: int) -> None:
    """Wakes the ranks that have come, so that all end now and say the same; rank 0, where the store is, goes last."""
    store.set("complete", "1")
    store.add("told", 1)
    if rank.is_first:
        _wait_for_count(store, "told", num_present)


def _wait_for_count(store: Store, counter: str, count: int) -> None:
    """Until the counter is there, for FAREWELL_SECONDS at most."""
    until = time.monotonic() + FAREWELL_SECONDS
    while store.add(counter, 0) < count and time.monotonic() < until:
        time.sleep(0.01)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
