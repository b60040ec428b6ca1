"""Keys to be worked on, in the manner of client-go: each key is with one worker at most, and is never queued twice.

Unlike client-go's, the queue is fair among namespaces, which take turns: a user with a thousand jobs costs one with a single job one
place in the line, not a thousand.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from .backoff import backoff

_RETRY_SECONDS = (0.05, 60.0)


class WorkQueue:
    """`get` a key (namespace/name), work on it, say `done`. A key added while it is worked on comes back once when it is done.

    All of it costs the same however many keys and namespaces there are. Not guaranteed: that namespaces get equal time, since
    looks differ in length.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # When a key was last taken or done, or the first one came; None: no worker has come yet.
        self._moved: float | None = None
        # By namespace, none of them empty; the first namespace has the next turn. (To find the first key of a dict takes O(n) once
        # others before it were deleted.)
        self._ready: OrderedDict[str, deque[str]] = OrderedDict()
        self._num_ready = 0
        self._added: set[str] = set()  # keys that wait, or that came back while they are worked on
        self._working: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._has_work = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return self._num_ready

    @property
    def waiting_since(self) -> float | None:
        """When a worker last took or finished a key, if there is one to be taken or finished. None before the first worker has come."""
        return self._moved if self._ready or self._working else None

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
        """The key that has waited longest of the namespace that has the turn."""
        if self._moved is None:
            self._move()
        while not self._ready:
            self._has_work.clear()
            await self._has_work.wait()
        key = self._take()
        self._added.remove(key)
        self._working.add(key)
        self._move()
        return key

    def done(self, key: str) -> None:
        """The worker has let go of `key`."""
        self._working.remove(key)
        self._move()
        if key in self._added:
            self._make_ready(key)

    def _fire(self, key: str) -> None:
        del self._timers[key]
        self.add(key)

    def _move(self) -> None:
        self._moved = self._clock()

    def _make_ready(self, key: str) -> None:
        if self._moved is not None and not (self._ready or self._working):
            self._move()  # there was nothing to do
        self._ready.setdefault(_namespace(key), deque()).append(key)
        self._num_ready += 1
        self._has_work.set()

    def _take(self) -> str:
        """A namespace that has had its turn goes to the end of the line, if it has more."""
        namespace = next(iter(self._ready))
        key = self._ready[namespace].popleft()
        if self._ready[namespace]:
            self._ready.move_to_end(namespace)
        else:
            del self._ready[namespace]
        self._num_ready -= 1
        return key


def _namespace(key: str) -> str:
    return key.partition("/")[0]
