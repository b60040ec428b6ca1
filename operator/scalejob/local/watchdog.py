"""`python -m scalejob.local.watchdog UID FOLDER`: ends the workers of a local run whose starter was killed, and removes its folder.

Its standard input is a pipe from the starter. The end of it means that the starter is gone, by whatever signal, and with it
everything that should run. Not guaranteed: without /proc nothing is found, and workers outlive a `kill -9` of their starter.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scalejob.contract import Env

from .processes import kill_all


@contextmanager
def watch(uid: str, folder: Path) -> Iterator[None]:
    """While this is open, neither the workers of the job with this uid nor its temporary folder outlive this process."""
    watchdog = subprocess.Popen(
        [sys.executable, "-m", "scalejob.local.watchdog", uid, str(folder)],
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
    _, uid, folder = sys.argv
    kill_all({Env.UID: uid})
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
