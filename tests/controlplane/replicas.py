"""Which replica of the operator leads, and how long another may take to."""

import asyncio
import contextlib
import time

import aiohttp

LEASE = ("scalejob-system", "scalejob-operator")
FAILOVER_SECONDS = 15.0  # after SIGKILL; the lease lasts 10
HANDOVER_SECONDS = 3.0  # after SIGTERM
_LOOK_SECONDS = 0.05


async def page(port: int, name: str) -> tuple[int, str]:
    """Status and text of a page of the replica at `port`; (0, "") if it does not answer."""
    with contextlib.suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/{name}") as answer:
            return answer.status, await answer.text()
    return 0, ""


async def leads(port: int) -> bool:
    return "scalejob_leader 1.0" in (await page(port, "metrics"))[1]


async def wait_until_it_leads(port: int) -> float:
    """Seconds that it took."""
    started = time.monotonic()
    while not await leads(port):
        assert time.monotonic() - started < 2 * FAILOVER_SECONDS
        await asyncio.sleep(_LOOK_SECONDS)
    return time.monotonic() - started


async def wait_until_ready(port: int) -> None:
    """Its caches are warm: it could take over at once."""
    started = time.monotonic()
    while (await page(port, "readyz"))[0] != 200:
        assert time.monotonic() - started < 2 * FAILOVER_SECONDS
        await asyncio.sleep(_LOOK_SECONDS)
