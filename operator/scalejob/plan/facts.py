"""What was seen of the present attempt and must be remembered when its Pods are gone."""

from scalejob.api.v1alpha1 import Metric, ModelResult, Result, Status
from scalejob.contract import LastWord

from .indices import to_ranges
from .model import Pod
from .times import to_text
from .view import View, change, missing, succeeded

METRIC_NAME_LIMIT = 64  # characters; what the CRD allows

# Why a container does not start, where waiting may help but mostly does not.
BLOCKED_STARTS = frozenset(
    (
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "CreateContainerConfigError",
        "CreateContainerError",
        "CrashLoopBackOff",
    )
)


def remember(view: View, status: Status) -> Status:
    """Adds what `view` shows to the durable facts. None of them is taken back while the attempt lasts."""
    if status.start_time is None:
        return status
    workers, now = view.workers(status), to_text(view.now)
    done = succeeded(status) | {index for index, pod in workers.items() if pod.phase == "Succeeded"}
    status = change(status, succeeded_indices=to_ranges(done), result=status.result or _result(workers.get(0)))
    are_running = all(index in done or is_running(workers.get(index)) for index in range(status.workers.desired))
    is_gated = any(pod.gates for pod in workers.values())
    is_blocked = any(is_blocked_start(pod) for pod in workers.values())
    return change(
        status,
        created_time=status.created_time or (None if missing(view, status) else now),
        running_time=status.running_time or (now if are_running else None),
        scheduling_time=None if is_gated else (status.scheduling_time or now),
        waiting_time=(status.waiting_time or now) if is_blocked else None,
    )


def is_running(pod: Pod | None) -> bool:
    return pod is not None and pod.phase == "Running" and pod.is_ready and not pod.is_deleting


def is_blocked_start(pod: Pod) -> bool:
    """An image cannot be pulled or a container cannot be made."""
    return pod.waiting is not None and pod.waiting.reason in BLOCKED_STARTS and not pod.is_deleting


def _result(pod: Pod | None) -> Result | None:
    """What rank 0 said when it ended well; None for a program that leaves no last word."""
    if pod is None or pod.phase != "Succeeded" or pod.terminated is None:
        return None
    word = LastWord.from_json(pod.terminated.message)
    if word is None:
        return None
    has_model = word.model_uri is not None and word.model_sha256 is not None
    return Result(
        metrics=[
            Metric(name=name[:METRIC_NAME_LIMIT], value=f"{value:.6g}") for name, value in (word.metrics or {}).items()
        ],
        rows=word.rows,
        features=word.features,
        seconds=None if word.seconds is None else f"{word.seconds:.1f}",
        model=ModelResult(uri=word.model_uri or "", sha256=word.model_sha256 or "") if has_model else None,
    )
