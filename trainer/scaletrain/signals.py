"""SIGTERM and SIGINT end a rank at once, also while its main thread waits in a collective, where no Python handler would run.

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


def end_on(act: Callable[[int], None]) -> None:
    """Calls `act` with the number of the first one that comes, from a thread of its own."""
    threading.Thread(target=lambda: act(signal.sigwait(ENDING)), name="signals", daemon=True).start()
