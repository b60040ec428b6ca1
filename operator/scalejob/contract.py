"""The names on which the operator and the trainer agree. Standard library only, so that both sides can import it.

Legend
    job       one ScaleJob resource
    worker    one Pod of the job; its *index* 0..workers-1 is its stable identity
    process   one process of the distributed program; rank = index * processesPerWorker + local rank
    attempt   one generation of the job's Pods: 0, 1, 2, ...; a new attempt replaces all Pods
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum
from typing import Any

GROUP = "scalejob.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ScaleJob"
PLURAL = "scalejobs"
MANAGED_BY = "scalejob.io/operator"
FIELD_MANAGER = "scalejob-operator"

# Derived names `<job>-<attempt>-<index>` are DNS labels of at most 63 characters.
MAX_NAME_LENGTH = 40
MAX_WORKERS = 10_000

LABEL_JOB = "scalejob.io/job"
LABEL_ATTEMPT = "scalejob.io/attempt"
LABEL_INDEX = "scalejob.io/index"
LABEL_COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"  # what tools for indexed Jobs look at
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"  # on a job: its queue decides when it runs
LABEL_APP = "app.kubernetes.io/name"
LABEL_APP_INSTANCE = "app.kubernetes.io/instance"
LABEL_APP_MANAGED_BY = "app.kubernetes.io/managed-by"

WORKER_CONTAINER = "worker"
DEFAULT_GPU_RESOURCE = "nvidia.com/gpu"
DEFAULT_PORT = 29500
WORKER_UID = 10001

# Where rank 0 serves /progress (JSON) inside a Pod; the operator reads it there.
PROGRESS_PORT = 29480
PROGRESS_PATH = "/progress"

TERMINATION_LOG = "/dev/termination-log"
TERMINATION_LIMIT = 4096  # bytes; the kubelet cuts there

# What a rank says of a peer whose process is stopped or whose node is cut off; the operator then waits for word of the node.
NO_SIGN_OF_LIFE = "gave no sign of life"

# Where a local run puts what the kubelet provides in a Pod.
ENV_TERMINATION_LOG = "SCALEJOB_TERMINATION_LOG"
ENV_PROGRESS_SECONDS = "SCALEJOB_PROGRESS_SECONDS"  # least time between two progress lines on stdout; default 1


class Env(StrEnum):
    """The environment of every worker container, whatever optional blocks the job has."""

    MASTER_ADDR = "MASTER_ADDR"
    MASTER_PORT = "MASTER_PORT"
    WORLD_SIZE = "WORLD_SIZE"
    RANK = "RANK"
    LOCAL_RANK = "LOCAL_RANK"
    LOCAL_WORLD_SIZE = "LOCAL_WORLD_SIZE"
    GROUP_RANK = "GROUP_RANK"
    NODE_RANK = "NODE_RANK"
    GROUP_WORLD_SIZE = "GROUP_WORLD_SIZE"
    PET_NNODES = "PET_NNODES"
    PET_NPROC_PER_NODE = "PET_NPROC_PER_NODE"
    PET_NODE_RANK = "PET_NODE_RANK"
    PET_MASTER_ADDR = "PET_MASTER_ADDR"
    PET_MASTER_PORT = "PET_MASTER_PORT"
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
    JOB_COMPLETION_INDEX = "JOB_COMPLETION_INDEX"
    NAME = "SCALEJOB_NAME"
    NAMESPACE = "SCALEJOB_NAMESPACE"
    UID = "SCALEJOB_UID"
    ATTEMPT = "SCALEJOB_ATTEMPT"
    INDEX = "SCALEJOB_INDEX"
    WORKERS = "SCALEJOB_WORKERS"
    SPEC = "SCALEJOB_SPEC"  # JSON of workload, data, prepare, validation, output, checkpoint, seed, rendezvous
    GRACE_SECONDS = "SCALEJOB_GRACE_SECONDS"  # between SIGTERM and SIGKILL
    OMP_NUM_THREADS = "OMP_NUM_THREADS"
    MKL_NUM_THREADS = "MKL_NUM_THREADS"


class ExitCode(IntEnum):
    """What a worker process says by ending. Anything else is a failure that may be retried."""

    DONE = 0
    INVALID = 2  # invalid spec or data: a retry cannot help
    PREEMPTED = 85  # state saved after SIGTERM
    OTHER_NODE = 86  # this node is bad
    DO_NOT_RESTART = 93
    HUNG = 94  # killed by the supervisor


class Phase(StrEnum):
    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    RESTARTING = "Restarting"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def is_finished(self) -> bool:
        return self in (Phase.SUCCEEDED, Phase.FAILED)


class Condition(StrEnum):
    SCHEDULED = "Scheduled"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"
    FINISHED = "Finished"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Reason(StrEnum):
    """The closed list of reasons in conditions and in `status.lastFailure.class`; docs/reasons.md has a line for each."""

    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    INVALID_SPEC = "InvalidSpec"
    INVALID_DATA = "InvalidData"
    RENDEZVOUS_TIMEOUT = "RendezvousTimeout"
    STORAGE_UNREACHABLE = "StorageUnreachable"
    USER_ERROR = "UserError"
    OOM_KILLED = "OOMKilled"
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    POD_DELETED = "PodDeleted"
    HUNG = "Hung"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    RESTART_LIMIT_EXCEEDED = "RestartLimitExceeded"
    DETERMINISTIC_ERROR = "DeterministicError"
    NAME_CONFLICT = "NameConflict"
    QUOTA_EXCEEDED = "QuotaExceeded"
    POLICY_DENIED = "PolicyDenied"
    # Reasons of conditions that tell of no failure.
    AS_EXPECTED = "AsExpected"
    WORKERS_STARTING = "WorkersStarting"
    ALL_WORKERS_RUNNING = "AllWorkersRunning"
    ALL_WORKERS_SUCCEEDED = "AllWorkersSucceeded"
    SUSPENDED = "Suspended"
    QUEUED = "Queued"
    SCHEDULING_GATED = "SchedulingGated"
    RESTARTING = "Restarting"
    NOT_FINISHED = "NotFinished"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWord:
    """What a rank leaves as its termination message: JSON of at most TERMINATION_LIMIT bytes, written by the trainer, read by the operator.

    Rank 0 of a finished job fills the result; a failed rank fills `error`, `message`, and `reason` if it is in the closed list.
    """

    rank: int
    step: int | None = None
    reason: str | None = None  # InvalidSpec, InvalidData, RendezvousTimeout, ...
    error: str | None = None  # type of the exception
    message: str | None = None
    metrics: dict[str, float] | None = None
    rows: int | None = None
    features: int | None = None
    seconds: float | None = None
    model_uri: str | None = None
    model_sha256: str | None = None
    digests: dict[str, str] | None = None  # of the prepared rows (data) and of all steps of the fit (steps)

    def to_json(self) -> str:
        """JSON without empty fields; `message` is cut so that the whole fits."""
        fields = {k: v for k, v in asdict(self).items() if v is not None}
        text = json.dumps(fields)
        while len(text.encode()) > TERMINATION_LIMIT and fields.get("message"):
            excess = len(text.encode()) - TERMINATION_LIMIT
            fields["message"] = fields["message"][: max(0, len(fields["message"]) - excess - 8)]
            text = json.dumps(fields)
        return text

    @classmethod
    def from_json(cls, text: str) -> "LastWord | None":
        """None if the text is not a last word: any program may write a termination message. Fields of a wrong type are left out."""
        try:
            known = _fitting(_parse(text), _LAST_WORD_FIELDS)
        except (ValueError, TypeError):
            return None
        return cls(**known) if "rank" in known else None


def _parse(text: str) -> Any:
    """JSON of a program that may write anything. Raises ValueError."""
    try:
        # An escape may stand for half of a character (a file name that is not UTF-8); nobody can store or send that.
        whole = json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace")
        return json.loads(whole)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _fitting(found: Mapping[str, Any], fields: Mapping[str, Callable[[object], bool]]) -> dict[str, Any]:
    """Those of `fields` that `found` has with the right type."""
    return {name: found[name] for name, fits in fields.items() if name in found and fits(found[name])}


def _is_whole(value: object) -> bool:
    """A whole number that the API server can store."""
    return type(value) is int and abs(value) < 2**63


def _is_number(value: object) -> bool:
    """Not an integer beyond all floats: it could not even be written as a figure."""
    return type(value) is float or _is_whole(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_figures(value: object) -> bool:
    return isinstance(value, dict) and all(_is_number(figure) for figure in value.values())


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


_LAST_WORD_FIELDS: dict[str, Callable[[object], bool]] = {
    "rank": _is_whole,
    "step": _is_whole,
    "reason": _is_text,
    "error": _is_text,
    "message": _is_text,
    "metrics": _is_figures,
    "rows": _is_whole,
    "features": _is_whole,
    "seconds": _is_number,
    "model_uri": _is_text,
    "model_sha256": _is_text,
    "digests": _is_texts,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressLine:
    """How far the job is: rank 0 prints it as one line of JSON on stdout and serves the latest one at PROGRESS_PATH."""

    phase: str  # data, prepare, fit, evaluate, save
    step: int
    of: int | None = None  # steps at most
    metric: str | None = None
    value: float | None = None
    eta_seconds: int | None = None
    digest: str | None = None  # of what has been learned so far: equal for any number of ranks

    def to_json(self) -> str:
        """One line; the key `progress` tells it from what a program prints otherwise."""
        return json.dumps({"progress": {k: v for k, v in asdict(self).items() if v is not None}})

    @classmethod
    def from_json(cls, text: str) -> "ProgressLine | None":
        """None if the text is not a progress line. Fields of a wrong type are left out."""
        if not text.startswith('{"progress"'):
            return None
        try:
            known = _fitting(_parse(text)["progress"], _PROGRESS_FIELDS)
        except (ValueError, TypeError, KeyError):
            return None
        return cls(**known) if "phase" in known and "step" in known else None


_PROGRESS_FIELDS: dict[str, Callable[[object], bool]] = {
    "phase": _is_text,
    "step": _is_whole,
    "of": _is_whole,
    "metric": _is_text,
    "value": _is_number,
    "eta_seconds": _is_whole,
    "digest": _is_text,
}
