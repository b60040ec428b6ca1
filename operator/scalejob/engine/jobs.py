"""The ScaleJobs as they were last seen, parsed once per resourceVersion."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from scalejob.plan.model import Job, Unreadable
from scalejob.plan.observe import read_job

logger = logging.getLogger(__name__)


def key_of(namespace: str, name: str) -> str:
    """The key of a job in the store and in the work queue."""
    return f"{namespace}/{name}"


class JobStore:
    """Versions only go forward: an event that is older than the answer to our own write is ignored.

    `on_change` gets the key of each job that is new, changed or gone.
    """

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._jobs: dict[str, Job | Unreadable] = {}

    def __iter__(self) -> Iterator[Job | Unreadable]:
        return iter(tuple(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, key: str) -> Job | Unreadable | None:
        """The job, or None if it is gone."""
        return self._jobs.get(key)

    def put(self, body: dict[str, Any]) -> None:
        """A job from a watch or a list."""
        if self._accept(body):
            self._on_change(_key(body))

    def put_own(self, body: dict[str, Any]) -> Job | Unreadable:
        """The job as our own write has left it. Nobody needs to hear of it: who wrote it goes on with it.

        Events may have overtaken the answer: a job that has changed since is not set back, and one that has gone stays gone.
        """
        job = read_job(body)
        if _key(body) in self._jobs and self._is_newer(body):
            self._jobs[_key(body)] = job
        return job

    def drop(self, key: str, uid: str) -> None:
        """The job with this uid is gone. A namesake stays: news of two jobs may come in any order."""
        known = self._jobs.get(key)
        if known and known.uid == uid:
            del self._jobs[key]
            self._on_change(key)

    def put_page(self, bodies: Iterable[dict[str, Any]]) -> list[str]:
        """Jobs from a page of a list. All are looked at anew, so that no lost event is lost for long.

        Returns the keys of those that were new or had changed.
        """
        news = []
        for body in bodies:
            if self._accept(body):
                news.append(_key(body))
            self._on_change(_key(body))
        return news

    def keep_only(self, keys: Collection[str], *, namespace: str | None, version: str) -> None:
        """All pages of a list of one namespace (None: of all) as it was at `version` were put, and showed these keys.

        Jobs that it lacks are gone, unless they are younger than the list.
        """
        for key, job in tuple(self._jobs.items()):
            in_scope = namespace in (None, job.namespace)
            if in_scope and key not in keys and int(job.resource_version) <= int(version):
                self.drop(key, job.uid)

    def _accept(self, body: dict[str, Any]) -> bool:
        """Store it if it is newer than what we know. What is not is not even parsed."""
        is_newer = self._is_newer(body)
        if is_newer:
            self._jobs[_key(body)] = read_job(body)
        return is_newer

    def _is_newer(self, body: dict[str, Any]) -> bool:
        known = self._jobs.get(_key(body))
        return known is None or int(body["metadata"]["resourceVersion"]) > int(known.resource_version)


def _key(body: dict[str, Any]) -> str:
    return key_of(body["metadata"]["namespace"], body["metadata"]["name"])
