"""SIGTERM and SIGINT end a rank, also while its main thread waits in a collective, where no Python handler would run.

They are blocked before any thread starts, so that all threads inherit it, and one thread waits for them. Blocked signals are
kept, even for process 1 of a container, which the kernel otherwise spares.
"""

import signal
import threading
from collections.abc import Callable

ENDING = {signal.SIGTERM, signal.SIGINT}


def hold() -> None:
    """Keeps the signals until `end_on` takes them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def end_on(*acts: Callable[[int], None]) -> None:
    """Calls `acts` in turn with the number of the first one that comes, from a thread of its own."""

    def wait() -> None:
        number = signal.sigwait(ENDING)
        for act in acts:
            act(number)

    threading.Thread(target=wait, name="signals", daemon=True).start()
