"""`python -m scalejob.local.watchdog UID`: ends the workers of a local run whose starter was killed.

Its standard input is a pipe from the starter. The end of it means that the starter is gone, by whatever signal, and with it
everything that should run. Not guaranteed: without /proc nothing is found, and workers outlive a `kill -9` of their starter.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from scalejob.contract import Env

from .processes import kill_all


@contextmanager
def watch(uid: str) -> Iterator[None]:
    """While this is open, the workers of the job with this uid do not outlive this process."""
    watchdog = subprocess.Popen(
        [sys.executable, "-m", "scalejob.local.watchdog", uid],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watchdog.communicate()


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it has to outlive its starter
    sys.stdin.buffer.read()
    kill_all({Env.UID: sys.argv[1]})


if __name__ == "__main__":
    main()
