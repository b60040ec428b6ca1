"""The ScaleJob itself: metadata that matters, `spec`, and the rules between its parts."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from scalejob.contract import (
    DEFAULT_GPU_RESOURCE,
    DEFAULT_PORT,
    MANAGED_BY,
    MAX_NAME_LENGTH,
    MAX_WORKERS,
    PROGRESS_PORT,
    ExitCode,
)

from .base import Model, Rule
from .data import Checkpoint, Data, Output, Prepare, Validation
from .pod import PodOptions
from .status import Status
from .workload import Workload

MAX_SECONDS = 2**31 - 1  # 68 years; the sum of a date and more may be no date


class Gpus(Model):
    """GPUs of each worker."""

    per_worker: int = Field(default=1, ge=1, le=64, description="GPUs of one worker.")
    resource: str = Field(
        default=DEFAULT_GPU_RESOURCE,
        max_length=253,
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        description="Name of the extended resource.",
    )


class Rendezvous(Model):
    """How the ranks find each other."""

    backend: Literal["auto", "gloo", "nccl"] = Field(
        default="auto", description="auto: nccl if every rank has a GPU of its own, else gloo."
    )
    port: int = Field(default=DEFAULT_PORT, ge=1024, le=65_535, description="Port of rank 0.")
    timeout_seconds: int = Field(
        default=600, ge=1, le=86_400, description="How long ranks wait for each other at the start."
    )


class Restarts(Model):
    """How often and how soon a job that lost a worker is started again."""

    failures: int = Field(default=3, ge=0, le=1000, description="New attempts after failures of the program.")
    disruptions: Literal["unlimited"] | Annotated[int, Field(ge=0, le=100_000)] = Field(
        default="unlimited",
        description="New attempts after evictions, deleted Pods and lost nodes: a number or unlimited.",
    )
    backoff_seconds: int = Field(
        default=1, ge=0, le=3600, description="Wait before the first new attempt after a failure; doubles each time."
    )
    backoff_max_seconds: int = Field(default=60, ge=0, le=86_400, description="The longest wait.")
    non_retryable_exit_codes: list[Annotated[int, Field(ge=1, le=255)]] = Field(
        default=[int(ExitCode.INVALID)], max_length=255, description="Exit codes that end the job at once."
    )


class Deadlines(Model):
    """Times after which something is given up: the job, or the nodes that a part of its workers hold in vain."""

    active_seconds: int | None = Field(
        default=None,
        ge=1,
        le=MAX_SECONDS,
        description="Seconds of running, suspended time not counted; default: none.",
    )
    scheduling_seconds: int | None = Field(
        default=None,
        ge=1,
        le=MAX_SECONDS,
        description="Seconds in which all workers must be scheduled, or the job fails; the time of closed scheduling gates is not counted;"
        " default: none.",
    )
    hold_seconds: int = Field(
        default=60,
        ge=1,
        le=MAX_SECONDS,
        description="Seconds for which workers may hold nodes while others of the job find none. Then all are released and, after a growing while, tried"
        " again (counted in restarts.disruptions), so that two jobs that wait for each other's nodes both end.",
    )
    image_pull_seconds: int = Field(
        default=300,
        ge=1,
        le=MAX_SECONDS,
        description="Seconds in which a failing image pull or container configuration must recover.",
    )


class KeepPods(StrEnum):
    NONE = "None"
    FAILED = "Failed"
    ALL = "All"


IMMUTABLE_WHILE_RUNNING = (
    "data",
    "prepare",
    "validation",
    "output",
    "checkpoint",
    "seed",
    "processesPerWorker",
    "gpus",
    "rendezvous",
    "pod",
)


def _unchanged(field: str) -> Rule:
    """`field` may change only with a suspension: while there is one, or in the write that begins or ends it, as Kueue does.

    The operator needs not see the suspension to notice the change: see `attempts.template_of`.
    """
    same = f"(has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field}))"
    return Rule(
        cel=f"oldSelf.suspend || self.suspend || {same}",
        message=f"{field} can change only while the job is suspended: set suspend: true first",
        field_path=f".{field}",
    )


class Spec(Model):
    """What to learn, from which data, on how many workers."""

    workload: Workload = Field(description="What the job runs. Exactly one member; cannot be changed.")
    data: Data | None = Field(
        default=None, description="Where the rows come from. Needed by every workload but command."
    )
    prepare: Prepare | None = Field(default=None, description="What is done to the features before the fit.")
    validation: Validation | None = Field(
        default=None, description="Rows held back for metrics; default: metrics are computed on the training rows."
    )
    output: Output | None = Field(
        default=None, description="Where the model goes. Needed by every workload but command."
    )
    checkpoint: Checkpoint | None = Field(
        default=None,
        description="Where and how often the state of the fit is saved; default: a new attempt begins at the beginning.",
    )
    seed: int = Field(default=0, ge=0, le=2**53 - 1, description="Seed of every random choice.")
    workers: int = Field(default=1, ge=1, le=MAX_WORKERS, description="Number of worker Pods.")
    processes_per_worker: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        default="auto", description="Processes in each worker: a number, or auto: one per GPU, or 1 without GPUs."
    )
    gpus: Gpus | None = Field(default=None, description="GPUs; default: none.")
    rendezvous: Rendezvous = Field(default=Rendezvous(), description="How the ranks find each other.")
    pod: PodOptions = Field(default=PodOptions(), description="Options of the worker Pods.")
    suspend: bool = Field(
        default=False, description="true: delete the workers and wait; false: go on with a new attempt."
    )
    restarts: Restarts = Field(default=Restarts(), description="How often the job is started again.")
    deadlines: Deadlines = Field(default=Deadlines(), description="Times after which something is given up.")
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=MAX_SECONDS,
        description="Seconds after the end at which the job is deleted; default: never.",
    )
    keep_pods: KeepPods = Field(
        default=KeepPods.FAILED, description="Which Pods stay after the end: None, Failed or All."
    )
    managed_by: str = Field(
        default=MANAGED_BY,
        min_length=1,
        max_length=63,
        description="The controller of this job; ours leaves all others alone.",
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.workload.command) || has(self.data)",
            message="data is needed by every workload but command",
            field_path=".data",
            check=lambda self: self.workload.command is not None or self.data is not None,
        ),
        Rule(
            cel="has(self.workload.command) || has(self.output)",
            message="output is needed by every workload but command",
            field_path=".output",
            check=lambda self: self.workload.command is not None or self.output is not None,
        ),
        Rule(
            cel="!has(self.workload.command) || !has(self.checkpoint)",
            message="checkpoint is for the trainer's own workloads: a command saves and resumes by itself",
            field_path=".checkpoint",
            check=lambda self: self.workload.command is None or self.checkpoint is None,
        ),
        Rule(
            cel="!(has(self.workload.linear) || has(self.workload.svm)) || !has(self.data) || !has(self.data.files)"
            " || has(self.data.files.label)",
            message="linear and svm learn from a label: name its column in data.files.label",
            field_path=".data.files.label",
            check=lambda self: (
                not (self.workload.is_supervised and self.data and self.data.files) or self.data.files.label is not None
            ),
        ),
        Rule(
            cel="self.restarts.backoffSeconds <= self.restarts.backoffMaxSeconds",
            message="restarts.backoffSeconds must not exceed restarts.backoffMaxSeconds",
            field_path=".restarts.backoffSeconds",
            check=lambda self: self.restarts.backoff_seconds <= self.restarts.backoff_max_seconds,
        ),
        Rule(
            cel="self.rendezvous.backend != 'nccl' || (has(self.gpus) && (type(self.processesPerWorker) == string"
            " || self.processesPerWorker <= self.gpus.perWorker))",
            message="rendezvous.backend nccl needs a GPU for every process: set gpus.perWorker, or use auto or gloo",
            field_path=".rendezvous.backend",
            check=lambda self: (
                self.rendezvous.backend != "nccl"
                or (self.gpus is not None and self.num_processes_per_worker <= self.gpus.per_worker)
            ),
        ),
        Rule(
            cel=f"self.rendezvous.port != {PROGRESS_PORT}",
            message=f"rendezvous.port {PROGRESS_PORT} is taken: rank 0 serves its progress there",
            field_path=".rendezvous.port",
            check=lambda self: self.rendezvous.port != PROGRESS_PORT,
        ),
        Rule(
            cel="self.workload == oldSelf.workload",
            message="workload cannot be changed: create a new job",
            field_path=".workload",
        ),
        Rule(
            cel="self.managedBy == oldSelf.managedBy",
            message="managedBy cannot be changed: create a new job",
            field_path=".managedBy",
        ),
        *(_unchanged(field) for field in IMMUTABLE_WHILE_RUNNING),
    )

    @property
    def num_processes_per_worker(self) -> int:
        """`processesPerWorker` with auto resolved: one per GPU, or 1."""
        if self.processes_per_worker != "auto":
            return self.processes_per_worker
        return self.gpus.per_worker if self.gpus else 1

    @property
    def world_size(self) -> int:
        return self.workers * self.num_processes_per_worker

    def task_json(self) -> dict[str, Any]:
        """What the trainer needs to know (SCALEJOB_SPEC): no Pod options, no life cycle."""
        return self.model_dump(
            mode="json",
            by_alias=True,
            exclude_none=True,
            include={"workload", "data", "prepare", "validation", "output", "checkpoint", "seed", "rendezvous"},
        )


NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


class Metadata(Model):
    """The part of the metadata that a user writes."""

    name: str = Field(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        pattern=NAME_PATTERN,
        description="Name of the job: a DNS label of at most 40 characters.",
    )
    namespace: str | None = Field(default=None, max_length=63, description="Namespace of the job.")
    labels: dict[str, str] | None = Field(default=None, description="Labels of the job.")
    annotations: dict[str, str] | None = Field(default=None, description="Annotations of the job.")


class ScaleJob(Model):
    """One training job."""

    api_version: Literal["scalejob.io/v1alpha1"] = Field(description="scalejob.io/v1alpha1")
    kind: Literal["ScaleJob"] = Field(description="ScaleJob")
    metadata: Metadata = Field(description="Standard metadata; the name has at most 40 characters.")
    spec: Spec = Field(description="What to run.")
    status: Status | None = Field(default=None, description="What the operator saw; never written by users.")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=f"self.metadata.name.size() <= {MAX_NAME_LENGTH}",
            message=f"metadata.name must have at most {MAX_NAME_LENGTH} characters: the names of Pods are derived from it",
        ),
        Rule(
            cel=f"self.metadata.name.matches('{NAME_PATTERN}')",
            message="metadata.name must be a DNS label that begins with a letter: a-z, 0-9 and -",
        ),
    )
