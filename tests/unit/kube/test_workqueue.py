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


async def test_keys_of_a_namespace_come_in_order():
    """First come, first served."""
    queue = WorkQueue()
    for key in ("n/b", "n/a", "n/c"):
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["n/b", "n/a", "n/c"]


@pytest.mark.parametrize(
    ("added", "want"),
    [
        ("a/1 a/2 a/3 b/1", "a/1 b/1 a/2 a/3"),
        ("a/1 a/2 b/1 b/2 c/1", "a/1 b/1 c/1 a/2 b/2"),
        ("b/1 a/1 b/2 a/2", "b/1 a/1 b/2 a/2"),
    ],
)
async def test_namespaces_take_turns(added: str, want: str):
    """However many keys the others have."""
    queue = WorkQueue()
    for key in added.split():
        queue.add(key)
    assert [await queue.get() for _ in added.split()] == want.split()
    assert len(queue) == 0


async def test_a_namespace_does_not_jump_the_line_by_coming_back():
    """One key that is added again as soon as it is done gets no more turns than another namespace's line."""
    queue, seen = WorkQueue(), []
    for key in ("b/1", "b/2", "b/3", "a/1"):
        queue.add(key)
    for _ in range(6):
        key = await queue.get()
        seen.append(key)
        if key == "a/1":
            queue.add(key)
        queue.done(key)
    assert seen == ["b/1", "a/1", "b/2", "a/1", "b/3", "a/1"]


async def test_a_key_whose_time_has_come_takes_the_turn_of_its_namespace():
    """A delayed key waits behind those of its own namespace only."""
    queue = WorkQueue()
    queue.add_after("b/1", 0.01)
    for number in range(5):
        queue.add(f"a/{number}")
    assert await queue.get() == "a/0"
    await asyncio.sleep(0.03)
    assert len(queue) == 5
    assert [await queue.get() for _ in range(3)] == ["a/1", "b/1", "a/2"]


async def test_a_retry_waits_its_time_whoever_has_the_turn():
    """Fairness hurries nothing."""
    queue = WorkQueue()
    queue.retry("a/1")
    queue.add("b/1")
    queue.add("b/2")
    assert [await queue.get(), await queue.get()] == ["b/1", "b/2"]
    assert len(queue) == 0
    assert await asyncio.wait_for(queue.get(), 1) == "a/1"


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
