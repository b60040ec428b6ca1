"""When /healthz fails: only when a new process would do better.

The world outside is no reason. A restart mends no API server and grants no right, makes no long queue shorter, and costs warm caches.
So a watch is dead only if the API server went on to answer others for `SECONDS` after the watch had last heard of it, without
any trouble in between; and the queue is stuck only if workers neither take nor finish a key, nor get an answer to a write, for
as long. Both hold for a replica that stands by too: its watches are as alive as the leader's, and it has no workers yet.
"""

import time
from collections.abc import Callable, Iterable

from scalejob.kube.client import PODS, SERVICES
from scalejob.kube.workqueue import WorkQueue

from .health import Check

# Longer than the longest silence of a good watch: bookmarks come each minute, and back-off ends after half a minute.
SECONDS = 300.0
_TOO_MANY = 429


class Answers:
    """When the API server last answered, and when it last could not, by what was asked for. Watches are not asked, but overheard."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._good: dict[str, float] = {}
        self._bad: dict[str, float] = {}

    def observe(self, verb: str, resource: str, code: int, _seconds: float) -> None:
        """One request; code 0: no answer. An API server that has too much to do, or that others speak for, does not count as there."""
        if verb != "watch":
            is_trouble = not code or code >= 500 or code == _TOO_MANY
            (self._bad if is_trouble else self._good)[resource] = self._clock()

    def last(self, *resources: str) -> float:
        """The last good answer about one of these; 0 if there was none."""
        return max((self._good.get(resource, 0.0) for resource in resources), default=0.0)

    def seconds_without(self, resource: str, since: float) -> float:
        """How long after `since` the API server has answered requests about other resources, without trouble."""
        good, bad = (_besides(resource, times) for times in (self._good, self._bad))
        return max(0.0, good - max(since, bad))


def _besides(resource: str, times: dict[str, float]) -> float:
    return max((at for name, at in times.items() if name != resource), default=0.0)


class Debts:
    """What the watch of ScaleJobs owes: changes that a list has shown before it. None of them is owed for ever by a watch that lives.

    Deletions are not among them, since a watch that was interrupted never tells of those; nor are jobs that have gone since,
    which may have been told of while the list was on its way.
    """

    def __init__(self, exists: Callable[[str], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._exists = exists
        self._clock = clock
        self._since: dict[str, float] = {}  # by the key of the job

    def owe(self, keys: Iterable[str]) -> None:
        """A list has shown that these have changed."""
        for key in keys:
            self._since.setdefault(key, self._clock())

    def pay(self, namespace: str | None) -> None:
        """The watch of this namespace (None: of all) has told of something, so it lives."""
        paid = [key for key in self._since if namespace is None or key.startswith(f"{namespace}/")]
        for key in paid:
            del self._since[key]

    @property
    def oldest(self) -> float | None:
        """Since when something is owed."""
        return min((since for key, since in self._since.items() if self._exists(key)), default=None)


def watches(answers: Answers, resource: str, silent_since: Callable[[], float | None], *, apart: bool = True) -> Check:
    """Whether a watch lives. `apart`: answers about the resource itself do not count, since they may be the watch's own."""

    def check() -> str | None:
        since = silent_since()
        if since is None:
            return None
        seconds = answers.seconds_without(resource if apart else "", since)
        return f"silent, though the API server has answered for {seconds:.0f} s since" if seconds >= SECONDS else None

    return check


def works(queue: WorkQueue, answers: Answers, clock: Callable[[], float] = time.monotonic) -> Check:
    """Whether workers get on. One that makes a thousand Pods slowly does, by each of them."""

    def check() -> str | None:
        moved = queue.waiting_since
        if moved is None:
            return None
        seconds = clock() - max(moved, answers.last(PODS.plural, SERVICES.plural))
        return (
            f"{len(queue)} jobs wait, and no look at one has ended for {seconds:.0f} s" if seconds >= SECONDS else None
        )

    return check
