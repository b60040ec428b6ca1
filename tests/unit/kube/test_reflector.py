"""Whatever happens to the stream, the store ends up as the API server is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from scalejob.kube import reflector as module
from scalejob.kube.client import PODS, Object, Selection
from scalejob.kube.errors import ApiError, ServerError, TooManyRequests
from scalejob.kube.reflector import Reflector
from scalejob.kube.store import Entry, Store
from tests.unit.kube.api_server import Script, event, page, pod, serving, status

GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}


def trim(obj: Object) -> Entry[str] | None:
    metadata = obj["metadata"]
    if metadata["labels"]["job"] == "none":
        return None
    return Entry(uid=metadata["uid"], namespace="n", owner_uid="o", owner_key="n/job", value=metadata["name"])


@asynccontextmanager
async def reflecting(script: Script) -> AsyncIterator[Store[str]]:
    store: Store[str] = Store(lambda before, after: None)
    async with serving(script) as client:
        task = asyncio.create_task(Reflector(client, Selection(resource=PODS), store, trim).run())
        try:
            yield store
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def settles(store: Store[str], *names: str) -> None:
    """Wait until the store holds exactly these."""
    deadline = asyncio.get_running_loop().time() + 5
    while sorted(store.owned_by("o")) != sorted(names):
        assert asyncio.get_running_loop().time() < deadline, store.owned_by("o")
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are tried again at once."""
    monkeypatch.setattr(module, "_BACKOFF_SECONDS", (0.01, 0.01))


async def test_follows_a_watch():
    """Added, modified and deleted objects appear and go."""
    events = [event("ADDED", pod("b", 2)), event("ADDED", pod("c", 3)), event("DELETED", pod("a", 4))]
    async with reflecting(Script(page(pod("a", 1)), events)) as store:
        await settles(store, "b", "c")


async def test_lists_in_pages():
    """All pages are taken over together."""
    script = Script(page(pod("a", 1), continue_="more"), page(pod("b", 1)), [])
    async with reflecting(script) as store:
        await settles(store, "a", "b")
    assert script.requests[1][2]["continue"] == "more"


async def test_goes_on_where_the_stream_ended():
    """After a broken connection the watch resumes at the last version, without a new list."""
    script = Script(
        page(pod("a", 1), version=1), [event("ADDED", pod("b", 5))], OSError(), [event("ADDED", pod("c", 6))]
    )
    async with reflecting(script) as store:
        await settles(store, "a", "b", "c")
    assert [query.get("resourceVersion") for _, _, query in script.requests] == [None, "1", "5", "5"]


async def test_half_an_event_is_none():
    """A stream that breaks in the middle of a line resumes before it."""
    torn = [event("ADDED", pod("b", 5)), event("ADDED", pod("c", 6))[:30]]
    script = Script(page(pod("a", 1), version=1), torn, [event("ADDED", pod("c", 6))])
    async with reflecting(script) as store:
        await settles(store, "a", "b", "c")
    assert script.requests[2][2]["resourceVersion"] == "5"


async def test_events_that_come_again_change_nothing_in_the_end():
    """As after a reconnect to a server that begins too early."""
    events = [event("ADDED", pod("b", 2)), event("DELETED", pod("b", 3)), event("ADDED", pod("c", 4))]
    async with reflecting(Script(page(pod("a", 1)), [*events, *events])) as store:
        await settles(store, "a", "c")


@pytest.mark.parametrize(
    ("error", "want"),
    [
        (TooManyRequests("", retry_after=7), 7),
        (TooManyRequests("", retry_after=3600), 30),
        (ServerError(""), 0),
    ],
)
def test_a_watch_that_is_refused_waits_as_long_as_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, error: ApiError, want: float
):
    """Within reason: not an hour."""
    monkeypatch.setattr(module, "_BACKOFF_SECONDS", (0.0, 30.0))
    assert module._pause(1, error) == want


async def test_bookmarks_move_the_version_on():
    """A bookmark is no object, but the watch resumes at its version."""
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "90"}})
    script = Script(page(pod("a", 1)), [bookmark], [event("ADDED", pod("b", 91))])
    async with reflecting(script) as store:
        await settles(store, "a", "b")
    assert script.requests[2][2]["resourceVersion"] == "90"


@pytest.mark.parametrize("gone", [[event("ERROR", GONE)], status(410, "Expired", "too old")])
async def test_deletions_in_a_gap_are_noticed(gone: object):
    """After 410 the list is taken again, and what it lacks has been deleted."""
    script = Script(page(pod("a", 1), pod("b", 1)), gone, page(pod("b", 8), version=8), [])
    async with reflecting(script) as store:
        await settles(store, "b")


@pytest.mark.parametrize(
    "fault", [status(500, "InternalError"), status(429, "TooManyRequests", headers={"Retry-After": "0"})]
)
async def test_failing_lists_are_tried_again(fault: object):
    """An API server in trouble only costs time."""
    async with reflecting(Script(fault, page(pod("a", 1)), [])) as store:
        await settles(store, "a")


async def test_objects_of_others_are_not_kept():
    """What `trim` refuses is not in the store, and an object that turns into such a one leaves it."""
    events = [event("MODIFIED", pod("a", 2, job="none")), event("ADDED", pod("b", 3))]
    async with reflecting(Script(page(pod("a", 1), pod("z", 1, job="none")), events)) as store:
        await settles(store, "b")


async def test_a_stream_that_ends_at_once_is_not_asked_again_at_once(caplog: pytest.LogCaptureFixture):
    """A server that ends each watch without an event is a failure to back off from."""
    async with reflecting(Script(page(pod("a", 1)), [], [], [event("ADDED", pod("b", 2))])) as store:
        await settles(store, "a", "b")
    assert [record.error for record in caplog.records] == ["the watch ended at once"] * 2


@pytest.mark.parametrize(
    ("after_list", "want"),
    [
        ([event("ADDED", pod("b", 2))], True),
        ([event("BOOKMARK", {"metadata": {"resourceVersion": "90"}})], True),
        ([], True),
        (status(403, "Forbidden"), True),
        (OSError(), False),
    ],
    ids=["an event", "a bookmark", "an orderly end", "a refusal", "a broken connection"],
)
async def test_it_remembers_when_it_was_spoken_to(after_list: object, want: bool):
    """Whatever the API server says counts; that it could not be reached does not."""
    now = 0.0
    store: Store[str] = Store(lambda before, after: None)
    async with serving(Script(page(pod("a", 1)), after_list, [])) as client:
        reflector = Reflector(client, Selection(resource=PODS), store, trim, clock=lambda: now)
        task = asyncio.create_task(reflector.run())
        await reflector.synced.wait()
        now = 1.0  # the list is at 0, what follows is at 1
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert reflector.heard == float(want)
