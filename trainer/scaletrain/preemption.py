"""SIGTERM: the cluster wants the node, and gives a grace time. It is enough to save the state of a fit, once.

    the rank with the signal --(its watch thread, the store of `rendezvous`)--> rank 0 --(the next step)--> saved: all end

Rank 0 saves within `Steps.offer` and raises Preempted, which ends all ranks as any error does. If that does not come in time,
or if there is nothing to save, the rank ends at once, as on any other signal.
"""

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from scalejob.contract import Env

DEFAULT_GRACE_SECONDS = 30.0
SHARE = 2 / 3  # of the grace time: the rest is for the last words


class Preemption:
    """The wish to end, in one process."""

    def __init__(self, grace_seconds: float = DEFAULT_GRACE_SECONDS) -> None:
        self.wished = threading.Event()  # set here by the signal, on rank 0 also by others
        self._patience = grace_seconds * SHARE
        self._is_possible = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Preemption":
        given = environ.get(Env.GRACE_SECONDS, "")
        return cls(float(given)) if given.isdigit() else cls()

    @contextmanager
    def possible(self) -> Iterator[None]:
        """While a fit runs, or is about to begin, whose state is saved."""
        self._is_possible = True
        try:
            yield
        finally:
            self._is_possible = False

    def wait(self, signal_number: int) -> None:
        """Asks for the end and returns when it should have come; at once if it cannot come.

        Not on SIGINT: who presses Ctrl-C does not want to wait.
        """
        if signal_number == signal.SIGTERM and self._is_possible:
            self.wished.set()
            time.sleep(self._patience)
