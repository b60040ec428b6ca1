"""/healthz, /readyz and /metrics."""

from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

# A check says what is wrong, or nothing.
Check = Callable[[], str | None]


@asynccontextmanager
async def serve_health(
    port: int, healthy: Mapping[str, Check], ready: Mapping[str, Check], registry: CollectorRegistry
) -> Any:
    """Serve while the context lasts. Raises OSError if the port is taken."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", _checked(healthy)),
            web.get("/readyz", _checked(ready)),
            web.get("/metrics", _metrics(registry)),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port).start()
        yield
    finally:
        await runner.cleanup()


def _checked(checks: Mapping[str, Check]) -> Callable[[web.Request], Any]:
    async def handler(_request: web.Request) -> web.Response:
        """200 `ok`, or 503 and one line for each check that fails."""
        problems = {name: problem for name, check in checks.items() if (problem := check())}
        text = "\n".join(f"{name}: {problem}" for name, problem in problems.items()) or "ok"
        return web.Response(text=f"{text}\n", status=503 if problems else 200)

    return handler


def _metrics(registry: CollectorRegistry) -> Callable[[web.Request], Any]:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return handler
