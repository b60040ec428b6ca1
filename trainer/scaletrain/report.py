"""A rank's last word: what became of it, as JSON of at most 4 KiB where the kubelet, or `scalejob run`, looks for it."""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from scalejob.contract import ENV_TERMINATION_LOG, TERMINATION_LOG, Env, ExitCode, LastWord

from .errors import PeerLost, TrainerError
from .progress import Teller
from .rendezvous import Cause


@dataclass(slots=True, kw_only=True)
class Report:
    """Takes one last word, from whichever thread is first, and leaves it."""

    rank: int
    place: Path | None  # None: nobody looks
    told: Teller  # knows the step
    tell_others: Callable[[LastWord], None] = lambda word: None  # of an end by a signal, once the ranks have met
    is_complete: bool = False  # this rank's part of the job is done: it ends by itself, and no signal makes it fail
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def from_env(cls, environ: Mapping[str, str], told: Teller) -> "Report":
        """SCALEJOB_TERMINATION_LOG, or the kubelet's file if it is there: outside of a Pod nobody makes files in /dev."""
        rank = environ.get(Env.RANK, "0")
        place = Path(environ.get(ENV_TERMINATION_LOG, TERMINATION_LOG))
        return cls(
            rank=int(rank) if rank.isdigit() else 0,
            place=place if ENV_TERMINATION_LOG in environ or place.exists() else None,
            told=told,
        )

    def success(self, word: LastWord) -> None:
        self._lock.acquire()  # never released: no other word may follow
        self._leave(word)

    def failure(self, error: Exception) -> NoReturn:
        """Ends the process because of an error of its own."""
        if not isinstance(error, TrainerError):
            say("".join(traceback.format_exception(error)).rstrip())
        self.end(self.cause_of(error))

    def victim(self, cause: Cause) -> NoReturn:
        """Ends the process because of another rank, with that one's reason and exit code: who sees it first is not misled."""
        how = "ended the attempt" if cause.exit_code == ExitCode.PREEMPTED else "failed"
        message = f"rank {cause.word.rank} {how}: {cause.word.error}: {cause.word.message}"
        word = replace(cause.word, rank=self.rank, step=self._step, error=PeerLost.__name__, message=message)
        self.end(Cause(word=word, exit_code=cause.exit_code), gives_way=True)

    def terminated(self, signal_number: int) -> None:
        """Ends the process on a signal: 128 + its number, as a shell says it. Nothing is saved, so it is not PREEMPTED."""
        if self.is_complete:
            return
        word = LastWord(rank=self.rank, step=self._step, error="Terminated", message=f"ended by signal {signal_number}")
        self.end(Cause(word=word, exit_code=128 + signal_number), gives_way=True, tell=self.tell_others)

    def cause_of(self, error: Exception) -> Cause:
        """What this rank says of its own error. One that nobody foresaw is told with its place."""
        known = isinstance(error, TrainerError)
        word = LastWord(
            rank=self.rank,
            step=self._step,
            reason=error.reason if known and not isinstance(error, PeerLost) else None,
            error=type(error).__name__,
            message=str(error) if known else f"{error} ({_last_place(error)})",
        )
        return Cause(word=word, exit_code=error.exit_code if known else 1)

    def end(self, cause: Cause, *, gives_way: bool = False, tell: Callable[[LastWord], None] | None = None) -> NoReturn:
        """Leaves the word, `tell`s it and ends the process, from any thread: the main thread may be stuck in a collective.

        The processes of a worker share the place: a word that `gives_way` does not replace the one that explains the end.
        """
        if not self._lock.acquire(blocking=False):
            threading.Event().wait()  # another thread is ending the process
        if not (gives_way and self._is_taken()):
            self._leave(cause.word)
        say(f"scaletrain: rank {self.rank}: {cause.word.error}: {cause.word.message}")
        if tell:
            tell(cause.word)
        leave(cause.exit_code)

    @property
    def _step(self) -> int:
        return self.told.latest.step

    def _is_taken(self) -> bool:
        """A kubelet makes the file before there is a word in it."""
        return self.place is not None and self.place.exists() and self.place.stat().st_size > 0

    def _leave(self, word: LastWord) -> None:
        if self.place is None:
            return
        try:
            self.place.write_text(word.to_json())
        except OSError as error:
            say(f"scaletrain: rank {self.rank}: no last word in {self.place}: {error}")


def leave(exit_code: int) -> NoReturn:
    """Ends the process at once: to take down the modules of torch in good order costs seconds on a busy machine."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError):
            stream.flush()
    os._exit(exit_code)


def say(text: str) -> None:
    """On stderr, which may be closed: the end must not hang on that."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _last_place(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
