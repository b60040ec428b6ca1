"""`scaletrain.forkserver`, but its ranks raise Struck on a signal, in the main thread, wherever that is: as a bug would.

The program itself knows nothing of it. It is not a signal's handler that raises, which would be named as the place.
"""

import ctypes
import os
import signal
import sys
import threading

from scaletrain import forkserver
from scaletrain.__main__ import run

STRIKE = signal.SIGUSR1


class Struck(Exception):
    """Nobody catches it."""

    def __str__(self) -> str:
        return "struck by a test"


def run_until_struck() -> None:
    """A rank, with a thread that waits for the signal, and takes no other in its stead: SIGTERM would end the process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    main_thread = ctypes.c_ulong(threading.get_ident())

    def wait() -> None:
        signal.sigwait({STRIKE})
        ctypes.pythonapi.PyThreadState_SetAsyncExc(main_thread, ctypes.py_object(Struck))

    threading.Thread(target=wait, name="strike", daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before | {STRIKE})  # all threads inherit it
    run()


if __name__ == "__main__":
    forkserver.run = run_until_struck
    forkserver.main(int(sys.argv[1]))
    os._exit(0)
