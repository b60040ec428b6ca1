"""A proxy between one operator and the API server that counts the calls and makes one of them go wrong.

Discovery and watches are no calls: the first tells nothing of jobs, the second have faults of their own, which strike all
watches at the moment of the call. The operator must have been given namespaces: what it asks about no namespace is discovery.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiohttp
from aiohttp import web

from scalejob.kube.client import Object

_SLOW_SECONDS = 1.5
_STALL_SECONDS = 1.0
_PASSED_ON = ("Authorization", "Content-Type", "Accept")


class Fault(StrEnum):
    """What happens at the call."""

    KILLED_BEFORE = "killed before"  # the operator dies, and the call never arrives
    KILLED_AFTER = "killed after"  # the operator dies when the call is committed, before the answer
    REPLY_LOST = "reply lost"  # committed; the connection is reset instead of an answer
    TOO_MANY = "429"
    SERVER_ERROR = "500"
    CONFLICT = "409"
    SLOW = "slow"  # committed; the answer comes after its echoes in the watches
    WATCH_RESET = "watch reset"
    WATCH_GONE = "watch gone"  # reset, and 410 on the attempt to go on
    WATCH_STALLED = "bookmarks"  # events are held back, bookmarks are not; then reset


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """A fault at the call with this number, from 0. Only a write can be in conflict with something."""

    fault: Fault
    at: int

    def hits(self, number: int, call: str) -> bool:
        return number == self.at and not (self.fault is Fault.CONFLICT and call.startswith("GET"))


class _Watch:
    """One stream of events to the operator."""

    def __init__(self, request: web.BaseRequest) -> None:
        self.path = request.path
        self.response = web.StreamResponse(headers={"Content-Type": "application/json"})
        self._request = request
        self._version = request.query.get("resourceVersion", "")
        self._last = b""

    async def send(self, line: bytes) -> None:
        self._last = line
        await self.response.write(line)

    async def bookmark(self) -> None:
        """One that is true: everything up to it has been sent."""
        event = json.loads(self._last) if self._last else {"object": {}}
        version = event["object"].get("metadata", {}).get("resourceVersion", self._version)
        kind = {key: event["object"].get(key, "") for key in ("kind", "apiVersion")}
        mark = {"type": "BOOKMARK", "object": kind | {"metadata": {"resourceVersion": version}}}
        await self.response.write(json.dumps(mark).encode() + b"\n")

    def reset(self) -> None:
        _reset(self._request)


class FaultProxy:
    """`kill` must have ended the operator when it returns, so that no call of it can follow; `revive` starts it again."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession, blow: Blow | None) -> None:
        self._upstream = upstream
        self._session = session
        self._blow = blow
        self._watches: set[_Watch] = set()
        self._gone: set[str] = set()  # paths whose next watch has expired
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.kill: Callable[[], None]
        self.revive: Callable[[], None]
        self.calls: list[str] = []
        self.struck: str | None = None  # the call that went wrong

    @property
    def watched(self) -> set[str]:
        """Paths of the open watches."""
        return {watch.path for watch in self._watches}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Gives the URL."""
        # A watch of an operator that is dead must end.
        runner = web.ServerRunner(web.Server(self._handle, handler_cancellation=True), shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            self._flowing.set()
            for watch in self._watches:
                watch.reset()
            await runner.cleanup()
            await asyncio.gather(*self._tasks)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._follow(request)
        body = await request.read()
        if "/namespaces/" not in request.path:
            return await self._forward(request, body)
        call = _describe(request, body)
        self.calls.append(call)
        if self._blow is None or not self._blow.hits(len(self.calls) - 1, call):
            return await self._forward(request, body)
        self.struck = call
        return await _STRIKES[self._blow.fault](self, request, body)

    async def _forward(self, request: web.BaseRequest, body: bytes) -> web.Response:
        async with self._ask(request, body) as answer:
            headers = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)

    def _ask(self, request: web.BaseRequest, body: bytes = b"") -> Any:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        url = self._upstream + request.path_qs
        return self._session.request(request.method, url, data=body or None, headers=headers)

    async def _follow(self, request: web.BaseRequest) -> web.StreamResponse:
        """A watch. Its reader may be gone at any time: by a blow, or by its own death."""
        watch = _Watch(request)
        with contextlib.suppress(ConnectionError):
            await watch.response.prepare(request)
            if request.path in self._gone:
                self._gone.remove(request.path)
                await watch.send(_line(_status(410, "Expired"), kind="ERROR"))
            else:
                await self._copy(request, watch)
        return watch.response

    async def _copy(self, request: web.BaseRequest, watch: _Watch) -> None:
        self._watches.add(watch)
        try:
            async with self._ask(request) as answer:
                async for line in answer.content:
                    await self._flowing.wait()
                    await watch.send(line)
        finally:
            self._watches.discard(watch)

    async def _kill_before(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        self.kill()
        self._watches.clear()
        self.revive()
        return _reset(request)

    async def _kill_after(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        await self._forward(request, body)
        return await self._kill_before(request, body)

    async def _lose_reply(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        await self._forward(request, body)
        return _reset(request)

    async def _delay_reply(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        response = await self._forward(request, body)
        await asyncio.sleep(_SLOW_SECONDS)
        return response

    async def _reset_watches(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        for watch in self._watches:
            watch.reset()
        return await self._forward(request, body)

    async def _expire_watches(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        self._gone |= self.watched
        return await self._reset_watches(request, body)

    async def _stall_watches(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        self._flowing.clear()
        task = asyncio.create_task(self._send_bookmarks_only(frozenset(self._watches)))
        self._tasks.add(task)
        return await self._forward(request, body)

    async def _send_bookmarks_only(self, watches: frozenset[_Watch]) -> None:
        for _ in range(5):
            await asyncio.sleep(_STALL_SECONDS / 5)
            for watch in watches & self._watches:
                with contextlib.suppress(ConnectionError):
                    await watch.bookmark()
        for watch in watches:
            watch.reset()
        self._flowing.set()


Strike = Callable[[FaultProxy, web.BaseRequest, bytes], Awaitable[web.StreamResponse]]


def _refuse(code: int, reason: str, **headers: str) -> Strike:
    """An answer in place of the API server's, which never hears of the call."""

    async def strike(_proxy: FaultProxy, _request: web.BaseRequest, _body: bytes) -> web.Response:
        return web.json_response(_status(code, reason), status=code, headers=headers)

    return strike


_STRIKES: Mapping[Fault, Strike] = {
    Fault.KILLED_BEFORE: FaultProxy._kill_before,
    Fault.KILLED_AFTER: FaultProxy._kill_after,
    Fault.REPLY_LOST: FaultProxy._lose_reply,
    Fault.TOO_MANY: _refuse(429, "TooManyRequests", **{"Retry-After": "1"}),
    Fault.SERVER_ERROR: _refuse(500, "InternalError"),
    Fault.CONFLICT: _refuse(409, "Conflict"),
    Fault.SLOW: FaultProxy._delay_reply,
    Fault.WATCH_RESET: FaultProxy._reset_watches,
    Fault.WATCH_GONE: FaultProxy._expire_watches,
    Fault.WATCH_STALLED: FaultProxy._stall_watches,
}


def _reset(request: web.BaseRequest) -> web.Response:
    """The connection breaks. What is returned reaches nobody."""
    if request.transport:
        request.transport.abort()
    return web.Response()


def _status(code: int, reason: str) -> Object:
    message = f"the proxy of the tests says {reason}"
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def _line(obj: Object, *, kind: str) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def _describe(request: web.BaseRequest, body: bytes) -> str:
    """`POST pods/job-0-1`, `PATCH scalejobs/job/status`, `POST pods/job-0-0 dryRun`."""
    path = request.path.split("/namespaces/", 1)[-1].split("/", 1)[-1]
    if request.method == "POST":
        path += "/" + json.loads(body)["metadata"]["name"]
    return f"{request.method} {path}" + (" dryRun" if "dryRun" in request.query else "")
