"""Election by a Lease, step by step on clocks that the tests move."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from scalejob.kube.client import PODS, Client
from scalejob.kube.config import ClusterConfig
from scalejob.kube.errors import NotLeading
from scalejob.kube.lease import Elector, LeaseLost, Terms
from tests.unit.engine.memory_server import MemoryServer, Object

TERMS = Terms(duration=10, deadline=7, retry=0.01)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(server: MemoryServer) -> AsyncIterator[Client]:
    async with server.serving() as client:
        yield client


def make(client: Client, identity: str, clock: Clock, terms: Terms = TERMS) -> Elector:
    return Elector(client, "n", "operator", identity, terms, clock)


def spec_of(server: MemoryServer) -> Object:
    found: Object = server.objects["leases", "operator"]["spec"]
    return found


async def test_the_first_makes_the_lease_and_renews_it(server: MemoryServer, client: Client, clock: Clock):
    first = make(client, "a", clock)
    running = asyncio.create_task(first.run())
    await first.acquired.wait()
    created = spec_of(server)
    clock.now += 5
    await asyncio.sleep(0.2)
    running.cancel()
    assert first.is_leading
    assert spec_of(server) | {"renewTime": ""} == created | {"renewTime": ""}
    assert (created["holderIdentity"], created["leaseDurationSeconds"], created["leaseTransitions"]) == ("a", 10, 0)


async def test_another_waits_for_ten_seconds_without_a_renewal(server: MemoryServer, client: Client, clock: Clock):
    """By its own clock, from the last change that it saw: the times in the lease are another machine's."""
    assert await make(client, "a", clock)._succeeds()
    server.objects["leases", "operator"]["spec"]["renewTime"] = "1999-01-01T00:00:00.000000Z"
    second = make(client, "b", clock)
    assert not await second._succeeds()
    clock.now += 9.9
    assert not await second._succeeds()
    clock.now += 0.2
    assert await second._succeeds()
    assert (spec_of(server)["holderIdentity"], spec_of(server)["leaseTransitions"]) == ("b", 1)


async def test_a_holder_that_stood_still_leads_no_more(server: MemoryServer, client: Client, clock: Clock):
    """From the deadline on, before anybody else can lead; and it does not come back, even if nobody has."""
    first = make(client, "a", clock)
    running = asyncio.create_task(first.run())
    await first.acquired.wait()
    clock.now += 7
    assert not first.is_leading
    with pytest.raises(LeaseLost):
        await running
    await first.release()
    assert spec_of(server)["holderIdentity"] == "a"


async def test_a_holder_that_cannot_renew_gives_up(server: MemoryServer, client: Client, clock: Clock):
    """Failures before the deadline are borne."""
    first = make(client, "a", clock)
    running = asyncio.create_task(first.run())
    await first.acquired.wait()
    server.objects["leases", "operator"]["spec"]["holderIdentity"] = "b"  # somebody's hand
    await asyncio.sleep(0.1)
    assert not running.done()
    clock.now += 7
    with pytest.raises(LeaseLost):
        await running


async def test_of_two_at_once_one_leads(
    server: MemoryServer, client: Client, clock: Clock, caplog: pytest.LogCaptureFixture
):
    """Both have read the same version of a lease that is free. That happens at every upgrade, so nobody is warned."""
    caplog.set_level("INFO", "scalejob.kube.lease")
    old = make(client, "old", clock)
    assert await old._succeeds()
    await old.release()
    assert not old.is_leading
    both = [make(client, name, clock) for name in "ab"]
    clock.now += 1
    found = await asyncio.gather(*(elector._succeeds() for elector in both))
    found += await asyncio.gather(*(elector._succeeds() for elector in both))
    assert sorted(elector.is_leading for elector in both) == [False, True]
    assert {(line.levelname, line.message) for line in caplog.records} == {
        ("INFO", "another replica has written the lease")
    }


async def test_a_released_lease_is_free(server: MemoryServer, client: Client, clock: Clock):
    """As soon as it is."""
    terms = Terms()  # a release must not last longer than a retry
    first, second = make(client, "a", clock, terms), make(client, "b", clock, terms)
    assert await first._succeeds()
    assert not await second._succeeds()
    await first.release()
    assert await second._succeeds()


async def test_a_lost_reply_is_no_lost_lease(server: MemoryServer, client: Client, clock: Clock):
    """The renewal was stored, its answer never came: the next look finds it."""
    first = make(client, "a", clock)
    assert await first._succeeds()
    server.break_at = (len(server.writes), "after")
    assert not await first._succeeds()
    assert await first._succeeds()
    server.break_at = (len(server.writes), "after")
    assert not await first._succeeds()
    await first.release()
    assert spec_of(server)["holderIdentity"] == ""


async def test_who_does_not_lead_sends_nothing():
    """Nowhere: there is no server."""
    async with Client(ClusterConfig(server="http://127.0.0.1:1"), may_write=lambda: False) as client:
        for request in (
            client.create(PODS, "n", {}),
            client.delete(PODS, "n", "p", uid="u"),
            client.merge_patch(PODS, "n", "p", {}),
        ):
            with pytest.raises(NotLeading):
                await request
