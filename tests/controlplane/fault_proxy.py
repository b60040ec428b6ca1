"""A proxy between one operator and the API server that counts the calls and makes some of them go wrong.

Discovery and watches are no calls: the first tells nothing of jobs, the second have faults of their own (`watch_faults`), which
strike all watches at the moment of a call.
"""

import asyncio
import contextlib
import functools
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiohttp
from aiohttp import web

from scalejob.kube.client import Object
from scalejob.kube.config import ClusterConfig
from tests.controlplane import watch_faults
from tests.controlplane.watch_faults import Trouble, Watch, line_of, reset

_SLOW_SECONDS = 1.5
_PASSED_ON = ("Authorization", "Content-Type", "Accept")
_LISTS = ("pods", "scalejobs")


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
    WATCH_TORN = "watch torn"  # reset in the middle of the next event
    WATCH_GONE = "watch gone"  # reset, and 410 on the attempt to go on
    WATCH_TOO_MANY = "watch 429"  # the same with 429
    WATCH_ERROR = "watch 500"
    BOOKMARKS = "bookmarks"  # events are held back, bookmarks are not; then reset
    REPEATED = "repeated"  # events come several times
    REORDERED = "reordered"
    PODS_LATE = "pods late"  # behind the ScaleJobs
    JOBS_LATE = "jobs late"

    @property
    def kills(self) -> bool:
        return self in (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)

    def fits(self, call: str) -> bool:
        """Only a write can be in conflict with something."""
        return not (self is Fault.CONFLICT and call.startswith("GET"))


WATCH_FAULTS = frozenset(list(Fault)[list(Fault).index(Fault.WATCH_RESET) :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """A fault at the call with this number, from 0, and at this `share` of those that follow."""

    fault: Fault
    at: int
    share: float = 0.0

    def __call__(self, number: int, call: str) -> Fault | None:
        is_again = number > self.at and random.Random(number).random() < self.share  # noqa: S311 - no secret
        return self.fault if (number == self.at or is_again) and self.fault.fits(call) else None


# Told the number of a call and what it is, says what goes wrong.
Choice = Callable[[int, str], Fault | None]


class FaultProxy:
    """`kill` must have ended the operator when it returns, so that no call of it can follow; `revive` starts it again.

    While `is_away`, nobody is answered.
    """

    def __init__(self, upstream: str, session: aiohttp.ClientSession, choose: Choice | None) -> None:
        self._upstream = upstream
        self._session = session
        self._choose = choose or (lambda number, call: None)
        self._watches: set[Watch] = set()
        self._refused: dict[str, int] = {}  # path -> code for its next watch
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_away = False
        self.kill: Callable[[], None]
        self.revive: Callable[[], None]
        self.calls: list[str] = []
        self.struck: list[tuple[Fault, str]] = []  # what went wrong, and the call

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
            await watch_faults.break_at_once(frozenset(self._watches))
            await runner.cleanup()
            await asyncio.gather(*self._tasks)

    async def go_away(self, seconds: float) -> None:
        """The API server cannot be reached for some time."""
        self.is_away = True
        await watch_faults.break_at_once(frozenset(self._watches))
        await asyncio.sleep(seconds)
        self.is_away = False

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.is_away:
            return reset(request)
        if "watch" in request.query:
            return await self._follow(request)
        body = await request.read()
        if not ("/namespaces/" in request.path or request.path.endswith(_LISTS)):
            return await self._forward(request, body)
        call = _describe(request, body)
        self.calls.append(call)
        fault = self._choose(len(self.calls) - 1, call)
        if fault is None or (self._tasks and fault in WATCH_FAULTS):  # one trouble at a time
            return await self._forward(request, body)
        self.struck.append((fault, call))
        return await _STRIKES[fault](self, request, body)

    async def _forward(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        async with self._ask(request, body) as answer:
            headers = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)

    def _ask(self, request: web.BaseRequest, body: bytes = b"") -> Any:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        url = self._upstream + request.path_qs
        return self._session.request(request.method, url, data=body or None, headers=headers)

    async def _follow(self, request: web.BaseRequest) -> web.StreamResponse:
        """A watch. Its reader may be gone at any time: by a blow, or by its own death."""
        code = self._refused.pop(request.path, None)
        if code not in (None, 410):
            return _refusal(code)
        watch = Watch(request)
        with contextlib.suppress(ConnectionError):
            await watch.response.prepare(request)
            if code:
                await watch.send(line_of("ERROR", _status(code)))
            else:
                await self._copy(request, watch)
        return watch.response

    async def _copy(self, request: web.BaseRequest, watch: Watch) -> None:
        self._watches.add(watch)
        try:
            async with self._ask(request) as answer:
                async for line in answer.content:
                    await watch.take(line)
        finally:
            self._watches.discard(watch)

    async def _kill_before(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        self.kill()
        self._watches.clear()
        self.revive()
        return reset(request)

    async def _kill_after(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        await self._forward(request, body)
        return await self._kill_before(request, body)

    async def _lose_reply(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        await self._forward(request, body)
        return reset(request)

    async def _delay_reply(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        response = await self._forward(request, body)
        await asyncio.sleep(_SLOW_SECONDS)
        return response

    async def _refuse_call(self, request: web.BaseRequest, body: bytes, *, code: int) -> web.StreamResponse:
        """An answer in place of the API server's, which never hears of the call."""
        return _refusal(code)

    async def _refuse_watches(self, request: web.BaseRequest, body: bytes, *, code: int) -> web.StreamResponse:
        self._refused |= dict.fromkeys(self.watched, code)
        return await self._trouble_watches(request, body, trouble=watch_faults.break_at_once)

    async def _trouble_watches(self, request: web.BaseRequest, body: bytes, *, trouble: Trouble) -> web.StreamResponse:
        task = asyncio.ensure_future(trouble(frozenset(self._watches)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.sleep(0)  # it has begun when the call is made
        return await self._forward(request, body)


@asynccontextmanager
async def open_upstream(config: ClusterConfig) -> AsyncIterator[aiohttp.ClientSession]:
    """What proxies ask the API server with."""
    connector = aiohttp.TCPConnector(limit=0, ssl=config.ssl or False)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield session


Strike = Callable[[FaultProxy, web.BaseRequest, bytes], Awaitable[web.StreamResponse]]


def _troubled(trouble: Trouble) -> Strike:
    return functools.partial(FaultProxy._trouble_watches, trouble=trouble)


_STRIKES: Mapping[Fault, Strike] = {
    Fault.KILLED_BEFORE: FaultProxy._kill_before,
    Fault.KILLED_AFTER: FaultProxy._kill_after,
    Fault.REPLY_LOST: FaultProxy._lose_reply,
    Fault.TOO_MANY: functools.partial(FaultProxy._refuse_call, code=429),
    Fault.SERVER_ERROR: functools.partial(FaultProxy._refuse_call, code=500),
    Fault.CONFLICT: functools.partial(FaultProxy._refuse_call, code=409),
    Fault.SLOW: FaultProxy._delay_reply,
    Fault.WATCH_RESET: _troubled(watch_faults.break_at_once),
    Fault.WATCH_TORN: _troubled(watch_faults.tear),
    Fault.WATCH_GONE: functools.partial(FaultProxy._refuse_watches, code=410),
    Fault.WATCH_TOO_MANY: functools.partial(FaultProxy._refuse_watches, code=429),
    Fault.WATCH_ERROR: functools.partial(FaultProxy._refuse_watches, code=500),
    Fault.BOOKMARKS: _troubled(watch_faults.bookmarks_only),
    Fault.REPEATED: _troubled(watch_faults.repeat),
    Fault.REORDERED: _troubled(watch_faults.reorder),
    Fault.PODS_LATE: _troubled(watch_faults.delay("pods")),
    Fault.JOBS_LATE: _troubled(watch_faults.delay("scalejobs")),
}
_REASONS = {409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError"}


def _refusal(code: int) -> web.Response:
    headers = {"Retry-After": "1"} if code == 429 else {}
    return web.json_response(_status(code), status=code, headers=headers)


def _status(code: int) -> Object:
    message = f"the proxy of the tests says {_REASONS[code]}"
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": _REASONS[code],
        "message": message,
    }


def _describe(request: web.BaseRequest, body: bytes) -> str:
    """`POST pods/job-0-1`, `PATCH scalejobs/job/status`, `POST pods/job-0-0 dryRun`."""
    path = request.path.split("/namespaces/", 1)[-1].split("/", 1)[-1]
    if request.method == "POST":
        path += "/" + json.loads(body)["metadata"]["name"]
    return f"{request.method} {path}" + (" dryRun" if "dryRun" in request.query else "")
