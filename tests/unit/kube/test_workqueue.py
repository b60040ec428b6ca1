"""One worker per key, nothing twice, nothing lost."""

import asyncio

import pytest

from scalejob.kube.workqueue import WorkQueue


async def test_a_key_is_queued_once():
    """Two adds before anybody looks are one piece of work."""
    queue = WorkQueue()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 1


async def test_keys_come_in_order():
    """First come, first served."""
    queue = WorkQueue()
    for key in ("b", "a", "c"):
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["b", "a", "c"]


async def test_a_key_is_with_one_worker():
    """A key that changes while it is worked on comes back when it is done, not before, and once."""
    queue = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert len(queue) == 1


async def test_get_waits():
    """A worker without work sleeps until there is some."""
    queue = WorkQueue()
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not worker.done()
    queue.add("a")
    assert await worker == "a"


async def test_the_earliest_time_counts():
    """A later wish does not put off an earlier one."""
    queue = WorkQueue()
    queue.add_after("a", 0.02)
    queue.add_after("a", 60)
    assert await asyncio.wait_for(queue.get(), 1) == "a"


async def test_an_earlier_time_replaces_a_later_one():
    """And the other way round."""
    queue = WorkQueue()
    queue.add_after("a", 60)
    queue.add_after("a", 0.01)
    assert await asyncio.wait_for(queue.get(), 1) == "a"


async def test_retries_wait_longer_each_time():
    """0.05 s doubles up to 60 s, less a jitter of up to a half; a success starts anew."""
    queue, loop = WorkQueue(), asyncio.get_running_loop()

    def wait_of_next_retry() -> float:
        queue.retry("a")
        timer = queue._timers.pop("a")
        timer.cancel()
        return timer.when() - loop.time()

    waits = [wait_of_next_retry() for _ in range(14)]
    assert waits[0] == pytest.approx(0.0375, abs=0.0135)
    assert waits[3] == pytest.approx(0.3, abs=0.11)
    assert 29 < waits[-1] <= 60
    queue.succeeded("a")
    assert wait_of_next_retry() <= 0.05


async def test_a_forgotten_key_does_not_come_back():
    """What is gone needs no look at later."""
    queue = WorkQueue()
    queue.add_after("a", 0.01)
    queue.forget("a")
    await asyncio.sleep(0.03)
    assert len(queue) == 0
