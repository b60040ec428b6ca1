"""What the planner reads (Job, Pod) and what it answers (Plan). Frozen values."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from scalejob.api.v1alpha1 import Spec, Status
from scalejob.contract import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One ScaleJob as it was last seen."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created: datetime
    is_deleting: bool
    queue: str | None = None  # of Kueue, which decides by spec.suspend when the job runs
    spec: Spec
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminated:
    """How the worker container ended."""

    exit_code: int
    reason: str = ""  # the kubelet's: Completed, Error, OOMKilled, ...
    message: str = ""  # the termination message: a LastWord, or the end of the log
    started: datetime | None = None
    finished: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why the worker has not started, or a container before or beside it without which the Pod does not."""

    reason: str  # ImagePullBackOff, CreateContainerConfigError, ...
    message: str = ""


PodPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One Pod of a job: the few facts that decisions rest on, so that a store of thousands stays small."""

    name: str
    uid: str
    job_uid: str  # of the controlling owner
    attempt: int
    index: int
    created: datetime
    started: datetime | None = None  # when the kubelet took it
    phase: PodPhase  # the worker's: other containers of the Pod may end later, and otherwise
    is_outlived: bool = False  # the worker has ended, a container beside it has not
    is_deleting: bool = False
    is_ready: bool = False
    unready: str = ""  # why not, in the kubelet's words; empty also if somebody else says so
    is_scheduled: bool = False
    node: str | None = None
    ip: str | None = None
    gates: tuple[str, ...] = ()  # without their opening no scheduler looks at the Pod
    unschedulable: str | None = None  # the scheduler's own text
    waiting: Waiting | None = None
    terminated: Terminated | None = None
    disruption: str | None = None  # reason of the condition DisruptionTarget
    reason: str = ""  # status.reason: Evicted, NodeLost, ...
    message: str = ""  # status.message, or that of the condition DisruptionTarget
    init_failure: str = ""  # which init container has kept the worker from its start, and how it ended

    @property
    def is_finished(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_over(self) -> bool:
        """Nothing of it runs any more, so it holds nothing of its node."""
        return self.is_finished and not self.is_outlived

    @property
    def is_node_lost(self) -> bool:
        """Nobody can say what the Pod does, since its node does not answer."""
        return self.phase == "Unknown" or self.reason == "NodeLost"

    @property
    def is_live(self) -> bool:
        """Nobody has asked it to stop, and it may be running."""
        return not (self.is_finished or self.is_deleting or self.is_node_lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A stored ScaleJob that this version cannot parse. `decide_unreadable` says what becomes of it."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    is_deleting: bool
    is_ours: bool  # spec.managedBy is ours, or absent
    message: str  # which fields, and what is wrong with them
    status: Status  # empty if it does not parse either
    is_status_readable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why the API server would not take the Service or the Pods of a job."""

    reason: Reason  # NameConflict, QuotaExceeded, PolicyDenied or InvalidSpec
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRef:
    """A Pod to delete: the uid is sent as precondition, so that a namesake is safe."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What people see in `kubectl describe`. Sent after the status is stored."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in this order: store `status` if it differs, delete, make the Service and the Pods, send the events.

    `creates` are indices of workers of the attempt `status.attempt`. `delete_job` asks for the end of the job itself (TTL).
    """

    status: Status
    deletes: tuple[PodRef, ...] = ()
    creates: tuple[int, ...] = ()
    delete_job: bool = False
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None  # seconds after which time alone may change the answer
