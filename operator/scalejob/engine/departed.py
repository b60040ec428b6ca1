"""Pods that are gone, as they were last seen.

A Pod may end, or be told to go, and be gone a moment later: whoever looks after that finds nothing, and would take a worker that
was done for one that was deleted, and an eviction for a deletion. What was seen counts until the attempt is over; what nobody saw,
since the operator was away, is lost with the Pod.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from scalejob.plan.model import Job, Pod, Unreadable


class Departed:
    """By job; of its present attempt only, so that no more is kept than there are workers."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[str, Pod]] = {}  # key -> name -> Pod

    def __len__(self) -> int:
        """How many Pods are remembered."""
        return sum(map(len, self._pods.values()))

    def note(self, key: str, pod: Pod) -> None:
        """The Pod is gone."""
        self._pods.setdefault(key, {})[pod.name] = replace(pod, is_deleting=True)

    def of(self, key: str, job: Job, pods: Iterable[Pod]) -> tuple[Pod, ...]:
        """Those that may still tell something, beside the `pods` that exist; what is not among them is forgotten.

        Until all Pods of an attempt have been seen, one that is gone is made again.
        """
        noted = self._pods.pop(key, None)
        if noted is None or job.status.created_time is None:
            return ()
        existing = {pod.name for pod in pods}
        return self._keep(key, (pod for pod in noted.values() if _may_count(pod, job) and pod.name not in existing))

    def sweep(self, get: Callable[[str], Job | Unreadable | None]) -> None:
        """Forget what can count no more. A replica that stands by looks at no job, and would remember all Pods there ever were."""
        for key, noted in tuple(self._pods.items()):
            job = get(key)
            self.forget(key)
            self._keep(key, (pod for pod in noted.values() if isinstance(job, Job) and _may_count(pod, job)))

    def forget(self, key: str) -> None:
        """The job is gone."""
        self._pods.pop(key, None)

    def _keep(self, key: str, pods: Iterable[Pod]) -> tuple[Pod, ...]:
        kept = {pod.name: pod for pod in pods}
        if kept:
            self._pods[key] = kept
        return tuple(kept.values())


def _may_count(pod: Pod, job: Job) -> bool:
    """Whether it belongs to the present attempt of a job that has not ended."""
    is_present = (pod.job_uid, pod.attempt) == (job.uid, job.status.attempt)
    return is_present and not job.status.phase.is_finished
