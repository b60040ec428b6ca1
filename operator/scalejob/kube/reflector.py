"""Keeps a store equal to what the API server holds: list in pages, watch, list again when the version has expired."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from .backoff import backoff
from .client import Client, Object, Selection
from .errors import ApiError, Gone, TooManyRequests, Unreachable
from .store import Entry, Store

T = TypeVar("T")
logger = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.5, 30.0)
# How many events are taken in before the event loop may run something else.
_BATCH = 100
# A stream without events that ends sooner is a failure: without a pause we would ask again and again.
_SHORT_SECONDS = 1.0


class Reflector(Generic[T]):
    """One list and watch. `trim` turns an object into what is kept of it; None: not ours.

    Guaranteed: the store never goes back behind a version it has shown, except to a complete list; deletions are noticed after any
    gap. Not guaranteed: that each intermediate state of an object is seen.
    """

    def __init__(
        self,
        client: Client,
        selection: Selection,
        store: Store[T],
        trim: Callable[[Object], Entry[T] | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._selection = selection
        self._store = store
        self._trim = trim
        self._version: str | None = None
        self._failures = 0  # since the API server last said anything
        self._clock = clock
        # When the API server last said anything to it: an event, a bookmark, a page, an end, a refusal.
        self.heard = clock()
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        while True:
            try:
                await self._list_and_watch()
            except ApiError as error:
                if isinstance(error, Gone):
                    self._version = None
                if not isinstance(error, Unreachable):
                    self._hear()
                self._failures += 1
                logger.warning("watch interrupted", extra={"resource": self._plural, "error": str(error)})
                await asyncio.sleep(_pause(self._failures, error))

    @property
    def _plural(self) -> str:
        return self._selection.resource.plural

    async def _list_and_watch(self) -> None:
        """List if there is no version to go on from; then watch until the stream ends."""
        if self._version is None:
            self._version = await self._list()
            self.synced.set()
        started, count = time.monotonic(), 0
        async for event in self._client.watch(self._selection, self._version):
            self._failures = 0
            self._hear()
            self._version = event.object["metadata"]["resourceVersion"]
            self._take(event.type, event.object)
            count += 1
            if count % _BATCH == 0:
                await asyncio.sleep(0)
        self._hear()
        if not count and time.monotonic() - started < _SHORT_SECONDS:
            raise Unreachable("the watch ended at once")

    async def _list(self) -> str:
        """Take over the complete list; returns its version. Pages are trimmed one by one, so memory stays small."""
        entries: list[Entry[T]] = []
        continue_ = ""
        while True:
            page = await self._client.list_page(self._selection, continue_=continue_)
            entries += filter(None, map(self._trim, page.items))
            self._failures = 0
            self._hear()
            continue_ = page.continue_
            if not continue_:
                self._store.replace(entries, namespace=self._selection.namespace)
                return page.resource_version

    def _hear(self) -> None:
        self.heard = self._clock()

    def _take(self, kind: str, obj: Object) -> None:
        """DELETED also tells of an object that has left the selection, and then shows it without the label."""
        if kind == "BOOKMARK":
            return
        entry = None if kind == "DELETED" else self._trim(obj)
        if entry is None:
            self._store.drop(obj["metadata"]["uid"])
        else:
            self._store.put(entry)


def _pause(failures: int, error: ApiError) -> float:
    """Seconds before the next try: as many as the API server asks for, within reason, and more with each failure in a row."""
    asked = error.retry_after if isinstance(error, TooManyRequests) else 0.0
    return max(backoff(failures, *_BACKOFF_SECONDS), min(asked, _BACKOFF_SECONDS[1]))
