"""Why an attempt is lost: the one worker whose end explains the others'.

When a rank dies, its peers die too: of a reset connection, of a time-out, or because their Pods are deleted next. Each
lost worker is judged alone by the table CLASSES, the first line that applies; then the one with the strongest cause is
the culprit: its own clear words, then what the cluster did to it, then its own exception, and last the words of those that
only noticed that somebody else is gone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from functools import partial

from scalejob.api.v1alpha1 import LastFailure, Spec, Status
from scalejob.contract import ExitCode, Reason

from .evidence import (
    Evidence,
    examine,
    is_killed_for_memory,
    is_on_lost_node,
    lost_a_peer,
    missed_a_peer,
    says,
)
from .model import Pod
from .times import to_text
from .view import View, in_one_line, missing


class Budget(StrEnum):
    """What a new attempt is counted against; the value is the field of `restarts`."""

    FAILURES = "failures"
    DISRUPTIONS = "disruptions"


class Strength(IntEnum):
    """How well an end explains the ends of others; the lowest value is the best explanation."""

    OWN_WORDS = 0  # it says itself that no retry can help
    OTHERS_WORDS = 1  # it repeats what a peer has said so
    TAKEN_AWAY = 2  # the kernel, the cluster or a person ended it
    OWN_ERROR = 3
    NOBODY_CAME = 4  # it waited for others at the start
    PEER_SILENT = 5  # it was working with others, and one did not answer
    PEER_LOST = 6  # it was working with others, and one was gone

    @property
    def is_victims(self) -> bool:
        """The end of another worker may explain this one."""
        return self in (Strength.OTHERS_WORDS, Strength.NOBODY_CAME, Strength.PEER_SILENT, Strength.PEER_LOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """One line of the failure table. `is_final`: no retry can help."""

    applies: Callable[[Evidence], bool]
    reason: Reason
    strength: Strength
    budget: Budget = Budget.FAILURES
    is_final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The verdict on a lost attempt."""

    reason: Reason
    budget: Budget
    strength: Strength
    is_final: bool
    index: int
    node: str | None = None
    exit_code: int | None = None
    step: int | None = None
    words: str = ""  # the last ones of the worker, or of who ended it
    finished: datetime | None = None

    @property
    def sentence(self) -> str:
        """For people: which worker, where, how it ended, and what it said."""
        where = f" on {self.node}" if self.node else ""
        how = _ENDINGS.get(self.reason, "failed")
        code = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        return in_one_line(f"worker {self.index}{where} {how}{code}" + (f": {self.words}" if self.words else ""))

    def to_status(self, attempt: int, seen: datetime) -> LastFailure:
        return LastFailure(
            index=self.index,
            node=self.node,
            class_=self.reason,
            exit_code=self.exit_code,
            attempt=attempt,
            message=in_one_line(self.words),
            step=self.step,
            time=to_text(seen),
        )


_ENDINGS = {
    Reason.UNSCHEDULABLE: "found no node",
    Reason.INVALID_SPEC: "refused the task",
    Reason.INVALID_DATA: "refused the data",
    Reason.OOM_KILLED: "ran out of memory",
    Reason.EVICTED: "was taken away",
    Reason.NODE_LOST: "was lost with its node",
    Reason.POD_DELETED: "was deleted",
    Reason.HUNG: "hung",
    Reason.STORAGE_UNREACHABLE: "could not reach its data or its output",
    Reason.RENDEZVOUS_TIMEOUT: "waited for others in vain",
}

CLASSES = (
    *(
        Class(applies=partial(says, reason, is_repeated), reason=reason, strength=strength, is_final=True)
        for reason in (Reason.INVALID_SPEC, Reason.INVALID_DATA)
        for is_repeated, strength in ((False, Strength.OWN_WORDS), (True, Strength.OTHERS_WORDS))
    ),
    Class(
        applies=is_on_lost_node,
        reason=Reason.NODE_LOST,
        strength=Strength.TAKEN_AWAY,
        budget=Budget.DISRUPTIONS,
    ),
    Class(
        applies=lambda e: e.pod.disruption is not None,
        reason=Reason.EVICTED,
        strength=Strength.TAKEN_AWAY,
        budget=Budget.DISRUPTIONS,
    ),
    Class(
        applies=lambda e: e.pod.is_deleting,
        reason=Reason.POD_DELETED,
        strength=Strength.TAKEN_AWAY,
        budget=Budget.DISRUPTIONS,
    ),
    Class(
        # Its exit codes are not those of the trainer.
        applies=lambda e: bool(e.pod.init_failure),
        reason=Reason.USER_ERROR,
        strength=Strength.OWN_ERROR,
    ),
    Class(applies=is_killed_for_memory, reason=Reason.OOM_KILLED, strength=Strength.TAKEN_AWAY),
    Class(
        # The kubelet refused the Pod or took it away, without an end of the container to tell of.
        applies=lambda e: e.exit_code is None,
        reason=Reason.EVICTED,
        strength=Strength.TAKEN_AWAY,
        budget=Budget.DISRUPTIONS,
    ),
    Class(
        applies=lambda e: e.exit_code == ExitCode.DO_NOT_RESTART,
        reason=Reason.USER_ERROR,
        strength=Strength.OWN_WORDS,
        is_final=True,
    ),
    Class(
        applies=lambda e: e.exit_code in e.spec.restarts.non_retryable_exit_codes,
        reason=Reason.USER_ERROR,
        strength=Strength.OWN_WORDS,
        is_final=True,
    ),
    Class(
        applies=lambda e: e.exit_code in (ExitCode.PREEMPTED, ExitCode.OTHER_NODE),
        reason=Reason.EVICTED,
        strength=Strength.TAKEN_AWAY,
        budget=Budget.DISRUPTIONS,
    ),
    Class(applies=lambda e: e.exit_code == ExitCode.HUNG, reason=Reason.HUNG, strength=Strength.OWN_ERROR),
    Class(
        applies=lambda e: e.said == Reason.RENDEZVOUS_TIMEOUT,
        reason=Reason.RENDEZVOUS_TIMEOUT,
        strength=Strength.NOBODY_CAME,
    ),
    # Before lost peers: its own text too speaks of refused connections.
    Class(
        applies=partial(says, Reason.STORAGE_UNREACHABLE, False),
        reason=Reason.STORAGE_UNREACHABLE,
        strength=Strength.OWN_ERROR,
    ),
    Class(applies=missed_a_peer, reason=Reason.USER_ERROR, strength=Strength.PEER_SILENT),
    Class(applies=lost_a_peer, reason=Reason.USER_ERROR, strength=Strength.PEER_LOST),
    Class(applies=lambda e: True, reason=Reason.USER_ERROR, strength=Strength.OWN_ERROR),
)


def find_failure(view: View, status: Status) -> Failure | None:
    """The culprit of the present attempt; None while no worker is lost."""
    failures = [judge(view.spec, pod) for pod in view.workers(status).values() if is_lost(pod)]
    if status.created_time is not None:
        failures += [_vanished(index) for index in missing(view, status)]
    if any(failure.strength is Strength.PEER_SILENT for failure in failures):
        failures += [_unreachable(pod) for pod in view.workers(status).values() if _is_out_of_reach(pod)]
    return min(failures, key=lambda failure: (failure.strength, _end(failure, view.now), failure.index), default=None)


def is_lost(pod: Pod) -> bool:
    """The worker cannot finish its part any more."""
    return pod.phase != "Succeeded" and not pod.is_live


def judge(spec: Spec, pod: Pod) -> Failure:
    """What became of one lost worker."""
    evidence = examine(spec, pod)
    verdict = next(line for line in CLASSES if line.applies(evidence))
    return Failure(
        reason=verdict.reason,
        budget=verdict.budget,
        strength=verdict.strength,
        is_final=verdict.is_final,
        index=pod.index,
        node=pod.node,
        exit_code=evidence.exit_code,
        step=evidence.word.step if evidence.word else None,
        words=evidence.error,
        finished=pod.terminated.finished if pod.terminated else None,
    )


def taken_away(reason: Reason, index: int, words: str, node: str | None = None) -> Failure:
    """What the cluster did to a worker that has said nothing itself."""
    return Failure(
        reason=reason,
        budget=Budget.DISRUPTIONS,
        strength=Strength.TAKEN_AWAY,
        is_final=False,
        index=index,
        node=node,
        words=words,
    )


def _vanished(index: int) -> Failure:
    """A Pod of a complete attempt that is not there any more."""
    return taken_away(Reason.POD_DELETED, index, "its Pod is gone")


def _is_out_of_reach(pod: Pod) -> bool:
    """Once its node has been silent for 40 seconds or so, Kubernetes says that a Pod is not ready; our worker itself never does."""
    return pod.is_live and pod.phase == "Running" and not pod.is_ready


def _unreachable(pod: Pod) -> Failure:
    """A Pod whose peers miss it, and whose node is silent too."""
    return taken_away(Reason.NODE_LOST, pod.index, "neither its node nor the worker gives a sign of life", pod.node)


def _end(failure: Failure, now: datetime) -> datetime:
    return failure.finished or now
