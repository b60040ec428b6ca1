"""What can go wrong with the watches that a proxy copies: they break, in the middle of an event too, or deliver late, twice, in
another order or nothing but bookmarks.

What the API server promises stays true, for a client could not live with less: events of one object come in their order, and a
bookmark comes after all that it stands for. Events that come again do so together, from some version on, as after a reconnect.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator

from aiohttp import web

from scalejob.kube.client import Object

SECONDS = 1.0  # for which a fault lasts that does not end at once
_REPEATED = 5  # events that come again


class Watch:
    """One stream of events to the operator. `sender` does with each line what is wrong at present."""

    def __init__(self, request: web.BaseRequest) -> None:
        self.path = request.path
        self.response = web.StreamResponse(headers={"Content-Type": "application/json"})
        self.sender: Sender = Watch.send
        self._request = request
        self._version = request.query.get("resourceVersion", "")
        self._sent: list[bytes] = []  # the last ones
        self._kept: list[bytes] = []  # those to be sent later, if at all

    @property
    def resource(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    async def take(self, line: bytes) -> None:
        await self.sender(self, line)

    async def send(self, line: bytes) -> None:
        self._sent = [*self._sent, line][-_REPEATED:]
        await self.response.write(line)

    async def keep(self, line: bytes) -> None:
        self._kept.append(line)

    async def tear(self, line: bytes) -> None:
        """The connection breaks in the middle of it."""
        await self.response.write(line[: len(line) // 2])
        self.reset()

    async def repeat(self, line: bytes) -> None:
        """With what came before it."""
        await self.send(line)
        await self.response.write(b"".join(self._sent))

    async def flush(self, order: Callable[[list[bytes]], Iterable[bytes]]) -> None:
        """Send what was kept, and go on as it should be."""
        while kept := self._kept:
            self._kept = []
            for line in order(kept):
                await self.send(line)
        self.sender = Watch.send

    async def bookmark(self) -> None:
        """One that is true: everything up to it has been sent."""
        event = json.loads(self._sent[-1]) if self._sent else {"object": {}}
        version = event["object"].get("metadata", {}).get("resourceVersion", self._version)
        kind = {key: event["object"].get(key, "") for key in ("kind", "apiVersion")}
        await self.response.write(line_of("BOOKMARK", kind | {"metadata": {"resourceVersion": version}}))

    def reset(self) -> None:
        reset(self._request)


Sender = Callable[[Watch, bytes], Awaitable[None]]
Trouble = Callable[[frozenset[Watch]], Awaitable[None]]


async def break_at_once(watches: frozenset[Watch]) -> None:
    for watch in watches:
        watch.reset()


async def tear(watches: frozenset[Watch]) -> None:
    for watch in watches:
        watch.sender = Watch.tear


async def repeat(watches: frozenset[Watch]) -> None:
    for watch in watches:
        watch.sender = Watch.repeat
    await asyncio.sleep(SECONDS)
    await _flush(watches)


async def reorder(watches: frozenset[Watch]) -> None:
    await _keep(watches)
    await _flush(watches, reordered)
    await asyncio.sleep(SECONDS / 5)  # a part of it, which no API server sends, must not be all that arrives


async def bookmarks_only(watches: frozenset[Watch]) -> None:
    """What was kept is lost with the connection: the operator has to ask again."""
    for watch in watches:
        watch.sender = Watch.keep
    for _ in range(5):
        await asyncio.sleep(SECONDS / 5)
        for watch in watches:
            with contextlib.suppress(ConnectionError):
                await watch.bookmark()
    await break_at_once(watches)


def delay(resource: str) -> Trouble:
    """So that the other watch is ahead."""

    async def trouble(watches: frozenset[Watch]) -> None:
        late = frozenset(watch for watch in watches if watch.resource == resource)
        await _keep(late)
        await _flush(late)

    return trouble


async def _keep(watches: frozenset[Watch]) -> None:
    for watch in watches:
        watch.sender = Watch.keep
    await asyncio.sleep(SECONDS)


async def _flush(watches: frozenset[Watch], order: Callable[[list[bytes]], Iterable[bytes]] = iter) -> None:
    for watch in watches:
        with contextlib.suppress(ConnectionError):
            await watch.flush(order)


def reordered(lines: list[bytes]) -> Iterator[bytes]:
    """The objects in another order, and the events of each in theirs; bookmarks after all that they stand for.

    The same lines always come in the same order.
    """
    events = [json.loads(line) for line in lines]
    marks = [line for line, event in zip(lines, events, strict=True) if event["type"] in ("BOOKMARK", "ERROR")]
    by_uid: dict[str, list[bytes]] = {}
    for line, event in zip(lines, events, strict=True):
        if event["type"] not in ("BOOKMARK", "ERROR"):
            by_uid.setdefault(event["object"]["metadata"]["uid"], []).append(line)
    turns = [uid for uid, of_one in by_uid.items() for _ in of_one]
    random.Random(len(turns)).shuffle(turns)  # noqa: S311 - no secret
    yield from (by_uid[uid].pop(0) for uid in turns)
    yield from marks


def line_of(kind: str, obj: Object) -> bytes:
    """One line of a watch."""
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def reset(request: web.BaseRequest) -> web.Response:
    """The connection breaks. What is returned reaches nobody."""
    if request.transport:
        request.transport.abort()
    return web.Response()
