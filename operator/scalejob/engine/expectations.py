"""Writes whose echo has not been seen yet. Until it is, the Pod store lags behind what we did, and a decision would be stale."""

import time
from collections.abc import Callable

# A lost echo must not stop a job for ever. Deciding too early is harmless, only wasteful: names and uids make writes idempotent.
_SECONDS = 30.0


class Expectations:
    """Per job: the names of Pods that were created and the uids of Pods that were deleted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadlines: dict[str, dict[str, float]] = {}

    def expect(self, key: str, what: str) -> None:
        """Say so before the write: its echo may come before its answer."""
        self._deadlines.setdefault(key, {})[what] = self._clock() + _SECONDS

    def fulfil(self, key: str, what: str) -> None:
        """The echo was seen, or the write failed."""
        waiting = self._deadlines.get(key)
        if waiting and waiting.pop(what, None) and not waiting:
            del self._deadlines[key]

    def remaining(self, key: str) -> float:
        """Seconds until the last echo is given up; 0 if none is missing."""
        left = max(self._deadlines.get(key, {}).values(), default=0.0) - self._clock()
        if left <= 0:
            self.forget(key)
        return max(0.0, left)

    def forget(self, key: str) -> None:
        """The job is gone."""
        self._deadlines.pop(key, None)
