"""A token bucket: at most `burst` requests at once and `qps` per second in the long run."""

import asyncio
from collections.abc import Callable


class TokenBucket:
    """Requests are served in the order in which they came, since each reserves its token at once.

    The level may be negative: then it is the number of reservations that still wait.

        level(t) = min(burst, level(t0) + (t - t0) * qps)
    """

    def __init__(self, *, qps: float, burst: int, clock: Callable[[], float] | None = None) -> None:
        if qps <= 0 or burst < 1:
            raise ValueError(f"qps must be positive and burst at least 1, not {qps} and {burst}")
        self._qps = qps
        self._burst = float(burst)
        self._level = float(burst)
        self._clock = clock
        self._time: float | None = None

    def reserve(self) -> float:
        """Take one token; returns the seconds to wait until it is there."""
        self._refill()
        self._level -= 1
        return max(0.0, -self._level / self._qps)

    async def acquire(self) -> None:
        """Take one token and wait until it is there."""
        delay = self.reserve()
        if delay > 0:
            await asyncio.sleep(delay)

    def _refill(self) -> None:
        now = self._clock() if self._clock else asyncio.get_running_loop().time()
        if self._time is not None:
            self._level = min(self._burst, self._level + (now - self._time) * self._qps)
        self._time = now
