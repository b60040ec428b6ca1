"""Keys to be worked on, in the manner of client-go: each key is with one worker at most, and is never queued twice."""

import asyncio
from collections import deque

from .backoff import backoff

_RETRY_SECONDS = (0.05, 60.0)


class WorkQueue:
    """`get` a key, work on it, say `done`. A key added while it is worked on comes back once when it is done."""

    def __init__(self) -> None:
        self._ready: deque[str] = deque()
        self._added: set[str] = set()  # keys that wait, or that came back while they are worked on
        self._working: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._has_work = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._ready)

    def add(self, key: str) -> None:
        """Work on `key` as soon as possible."""
        if key in self._added:
            return
        self._added.add(key)
        if key not in self._working:
            self._make_ready(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Work on `key` in some time. Of several times the earliest counts: each pass asks for the next one itself."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer and timer.when() <= loop.time() + seconds:
            return
        if timer:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._fire, key)

    def retry(self, key: str) -> None:
        """Work on `key` again after 0.05 to 60 s: longer with each failure in a row."""
        self._failures[key] = self._failures.get(key, 0) + 1
        self.add_after(key, backoff(self._failures[key], *_RETRY_SECONDS))

    def succeeded(self, key: str) -> None:
        """The next failure is the first one again."""
        self._failures.pop(key, None)

    def forget(self, key: str) -> None:
        """The key is gone: nothing is to be done about it later."""
        self.succeeded(key)
        if timer := self._timers.pop(key, None):
            timer.cancel()

    async def get(self) -> str:
        """The key that has waited longest."""
        while not self._ready:
            self._has_work.clear()
            await self._has_work.wait()
        key = self._ready.popleft()
        self._added.remove(key)
        self._working.add(key)
        return key

    def done(self, key: str) -> None:
        """The worker has let go of `key`."""
        self._working.remove(key)
        if key in self._added:
            self._make_ready(key)

    def _fire(self, key: str) -> None:
        del self._timers[key]
        self.add(key)

    def _make_ready(self, key: str) -> None:
        self._ready.append(key)
        self._has_work.set()
