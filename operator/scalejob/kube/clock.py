"""Time that passes evenly, whatever is done to the clock of the host."""

import time
from collections.abc import Callable
from datetime import UTC, datetime


def steady_seconds() -> float:
    """Never set; goes on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class SteadyClock:
    """The time of day: that of the host when this was made, and the time that has passed since.

    So no deadline comes early or late because somebody sets the host's clock. Not guaranteed: that it is right. One that was
    wrong at the start stays so, evenly, until the process ends.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = steady_seconds) -> None:
        self._steady = steady
        self._epoch = wall() - steady()

    def __call__(self) -> datetime:
        """In UTC."""
        return datetime.fromtimestamp(self._epoch + self._steady(), UTC)
