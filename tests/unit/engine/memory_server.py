"""An API server in memory, behind real HTTP: versions, uids, name conflicts, preconditions, owner references, and faults on command."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from scalejob.kube.client import Client
from scalejob.kube.config import ClusterConfig
from scalejob.kube.limiter import TokenBucket

Object = dict[str, Any]
Key = tuple[str, str]  # plural, name; the tests use one namespace
Admission = Callable[[str, Object], web.Response | None]

WRITES = ("POST", "PATCH", "DELETE")


def refusal(code: int, reason: str, message: str) -> web.Response:
    """A failure in the API server's form."""
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": message}, status=code)


def merge(target: Object, patch: Object) -> Object:
    """RFC 7386."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = merge(result.get(name) or {}, value)
        else:
            result[name] = value
    return result


class MemoryServer:
    """`objects` is what is stored, `created` how often each name was created, `writes` the requests that change something."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.created: list[str] = []
        self.writes: list[tuple[str, str]] = []
        self.admit: Admission = lambda plural, body: None
        self.break_at: tuple[int, str] | None = None  # number of the write, and "before" or "after" it is stored
        self._versions = itertools.count(2)

    def of(self, plural: str) -> list[Object]:
        return [obj for (kind, _), obj in self.objects.items() if kind == plural]

    def put(self, plural: str, body: Object) -> Object:
        """Store an object as it is, with a new version and, if it has none, a uid."""
        name, version = body["metadata"]["name"], str(next(self._versions))
        metadata = {"uid": f"uid-{version}", "creationTimestamp": "2026-01-02T03:04:05Z"} | body["metadata"]
        self.objects[plural, name] = body | {"metadata": metadata | {"resourceVersion": version}}
        return self.objects[plural, name]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method not in WRITES:
            return self._read(request)
        fault = self._fault(request)
        if fault != "before":
            answer = self._write(request.method, *_target(request), await request.json())
            if fault != "after":
                return answer
        assert request.transport
        request.transport.abort()
        return web.Response()

    def _fault(self, request: web.Request) -> str | None:
        number = len(self.writes)
        self.writes.append((request.method, _target(request)[0]))
        return self.break_at[1] if self.break_at and self.break_at[0] == number else None

    def _read(self, request: web.Request) -> web.Response:
        found = self.objects.get(_target(request))
        return web.json_response(found) if found else refusal(404, "NotFound", f"{request.path} not found")

    def _write(self, method: str, plural: str, name: str, body: Object) -> web.Response:
        if method == "POST":
            return self._create(plural, body)
        found = self.objects.get((plural, name))
        if not found:
            return refusal(404, "NotFound", f"{name} not found")
        return self._patch(plural, found, body) if method == "PATCH" else self._delete(plural, found, body)

    def _create(self, plural: str, body: Object) -> web.Response:
        name = body["metadata"]["name"]
        if (plural, name) in self.objects:
            return refusal(409, "AlreadyExists", f"{name} already exists")
        if denied := self.admit(plural, body):
            return denied
        self.created.append(name)
        return web.json_response(self.put(plural, body), status=201)

    def _patch(self, plural: str, found: Object, patch: Object) -> web.Response:
        version = patch.get("metadata", {}).get("resourceVersion")
        if version not in (None, found["metadata"]["resourceVersion"]):
            return refusal(409, "Conflict", "the object has been modified")
        return web.json_response(self.put(plural, merge(found, patch)))

    def _delete(self, plural: str, found: Object, options: Object) -> web.Response:
        metadata = found["metadata"]
        if options.get("preconditions", {}).get("uid") not in (None, metadata["uid"]):
            return refusal(409, "Conflict", "the uid does not match")
        del self.objects[plural, metadata["name"]]
        return web.json_response({})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Client]:
        """A client of this server."""
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        config = ClusterConfig(server=f"http://127.0.0.1:{runner.addresses[0][1]}")
        try:
            async with Client(config, limiter=TokenBucket(qps=100_000, burst=100_000)) as client:
                yield client
        finally:
            await runner.cleanup()


def _target(request: web.Request) -> Key:
    """Plural and name from .../namespaces/N/PLURAL/NAME/..."""
    parts = request.path.split("/namespaces/")[1].split("/")
    return parts[1], parts[2] if len(parts) > 2 else ""
