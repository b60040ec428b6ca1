"""An HTTP server in the test process that answers as an API server would, and breaks on command."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from scalejob.kube.client import Client
from scalejob.kube.config import ClusterConfig
from scalejob.kube.limiter import TokenBucket

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status(code: int, reason: str, message: str = "", headers: dict[str, str] | None = None) -> web.Response:
    """A failure in the API server's form."""
    body = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code, headers=headers)


def pod(name: str, version: int, *, owner: str = "o", job: str = "job") -> dict[str, Any]:
    """A Pod as far as a reflector looks at it."""
    return {
        "metadata": {
            "name": name,
            "namespace": "n",
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            "labels": {"job": job},
        }
    }


def event(kind: str, obj: dict[str, Any]) -> bytes:
    """One line of a watch stream."""
    return orjson.dumps({"type": kind, "object": obj}) + b"\n"


def page(*items: dict[str, Any], version: int = 1, continue_: str = "") -> web.Response:
    """One page of a list."""
    return web.json_response(
        {"metadata": {"resourceVersion": str(version), "continue": continue_}, "items": list(items)}
    )


class Script:
    """Answers requests one after the other with what the test has written; watches with none left stay open, silent.

    `requests` holds what was asked: method, path and parameters.
    """

    def __init__(self, *answers: web.Response | list[bytes] | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.query)))
        self.headers.append(dict(request.headers))
        answer = self._answers.pop(0) if self._answers else []
        if isinstance(answer, web.Response):
            return answer
        return await self._stream(request, answer)

    async def _stream(self, request: web.Request, answer: list[bytes] | Exception) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if isinstance(answer, Exception):
            assert request.transport
            request.transport.abort()  # as a load balancer does that forgets a connection
            return response
        for line in answer:
            await response.write(line)
        if self._answers:
            return response
        await asyncio.sleep(60)
        return response


@asynccontextmanager
async def serving(script: Script, **config: Any) -> AsyncIterator[Client]:
    """A client of a server that follows the script."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", script.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    settings = ClusterConfig(server=f"http://127.0.0.1:{port}", **config)
    try:
        async with Client(settings, limiter=TokenBucket(qps=10_000, burst=10_000)) as client:
            yield client
    finally:
        await runner.cleanup()
