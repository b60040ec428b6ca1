"""Pods that are gone, as they were last seen.

A Pod may end, or be told to go, and be gone a moment later: whoever looks after that finds nothing, and would take a worker that
was done for one that was deleted, and an eviction for a deletion. What was seen counts until the attempt is over; what nobody saw,
since the operator was away, is lost with the Pod.
"""

from collections.abc import Iterable
from dataclasses import replace

from scalejob.plan.model import Job, Pod


class Departed:
    """By job; of its present attempt only, so that no more is kept than there are workers."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[str, Pod]] = {}  # key -> name -> Pod

    def note(self, key: str, pod: Pod) -> None:
        """The Pod is gone."""
        self._pods.setdefault(key, {})[pod.name] = replace(pod, is_deleting=True)

    def of(self, key: str, job: Job, pods: Iterable[Pod]) -> tuple[Pod, ...]:
        """Those that may still tell something, beside the `pods` that exist; what is not among them is forgotten.

        Until all Pods of an attempt have been seen, one that is gone is made again.
        """
        noted = self._pods.pop(key, None)
        if noted is None or job.status.created_time is None or job.status.phase.is_finished:
            return ()
        existing = {pod.name for pod in pods}
        kept = {
            name: pod
            for name, pod in noted.items()
            if (pod.job_uid, pod.attempt) == (job.uid, job.status.attempt) and name not in existing
        }
        if kept:
            self._pods[key] = kept
        return tuple(kept.values())

    def forget(self, key: str) -> None:
        """The job is gone."""
        self._pods.pop(key, None)
