"""`status`: what the operator saw and decided. Written by the operator only.

Attempt number, counters, first-seen times and the last failure are durable decisions (written ahead of the action they
justify); everything else is computed anew from the Pods at each reconcile.
"""

from typing import Annotated, Literal

from pydantic import Field

from scalejob.contract import Condition, Phase

from .base import Model

Text = Annotated[str, Field(max_length=4096)]


class ConditionStatus(Model):
    """One condition, in the form of KEP-1623."""

    type: Condition = Field(description="Name of the condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: str = Field(default="", max_length=128, description="Reason from the closed list in the documentation.")
    message: Text = Field(default="", description="The same for people.")
    last_transition_time: str | None = Field(default=None, description="When the status last changed (RFC 3339).")
    observed_generation: int | None = Field(default=None, description="Generation of the spec that was looked at.")


class Workers(Model):
    """Worker Pods of the present attempt."""

    desired: int = Field(default=0, description="Workers of the present attempt.")
    pending: int = Field(default=0, description="Not yet running.")
    ready: int = Field(default=0, description="Running and ready.")
    succeeded: int = Field(default=0, description="Ended with exit code 0.")
    failed: int = Field(default=0, description="Ended otherwise.")
    selector: str = Field(default="", description="Label selector of the job's Pods, for the scale subresource.")
    summary: str = Field(default="", description="Ready or succeeded workers of those desired, for the printed column.")


class RestartCounts(Model):
    """Attempts that ended before the job did."""

    failures: int = Field(default=0, description="Because the program failed; counted against restarts.failures.")
    total: int = Field(default=0, description="All of them, for the printed column.")
    disruptions: int = Field(
        default=0, description="Because a Pod or node was taken away; counted against restarts.disruptions."
    )
    out_of_memory: int = Field(
        default=0, description="Those of the failures in which a worker ran out of memory; one is forgiven."
    )
    recent: int = Field(
        default=0, description="Those since the job last ran for 10 minutes; the back-off doubles with each."
    )


class LastFailure(Model):
    """Why the last attempt ended."""

    index: int | None = Field(default=None, description="Index of the worker.")
    node: str | None = Field(default=None, description="Node that it ran on.")
    class_: str = Field(alias="class", description="Reason from the closed list in the documentation.")
    exit_code: int | None = Field(default=None, description="Exit code of the worker.")
    attempt: int = Field(default=0, description="The attempt that ended.")
    message: Text = Field(default="", description="The last words of the worker.")
    step: int | None = Field(default=None, description="The step at which it failed, if it said so.")
    time: str | None = Field(default=None, description="When it was seen (RFC 3339).")


class Progress(Model):
    """How far the fit is, as rank 0 reports it."""

    phase: str | None = Field(default=None, description="What is being done: data, fit, evaluate, save.")
    step: int | None = Field(default=None, description="Steps done.")
    of: int | None = Field(default=None, description="Steps at most.")
    metric: str | None = Field(default=None, description="Name of the metric that is followed.")
    value: str | None = Field(default=None, description="Its present value.")
    eta_seconds: int | None = Field(
        default=None, description="Estimated seconds to the end of the phase, where its number of steps is known."
    )
    updated_at: str | None = Field(default=None, description="When this was read (RFC 3339).")
    summary: str = Field(default="", description="One line for the printed column.")


class Metric(Model):
    """One figure of the result."""

    name: str = Field(max_length=64, description="Name, for example r2.")
    value: str = Field(max_length=64, description="Value in decimal.")


class ModelResult(Model):
    """The model that was written."""

    uri: str = Field(description="Where it lies.")
    sha256: str = Field(description="SHA-256 of model.safetensors, equal for any number of workers.")


class Result(Model):
    """What came out."""

    metrics: list[Metric] = Field(default=[], description="Figures of merit.")
    rows: int | None = Field(default=None, description="Rows that were learned from.")
    features: int | None = Field(default=None, description="Features that were learned from.")
    seconds: str | None = Field(default=None, description="Seconds from the start of rank 0 to the written model.")
    model: ModelResult | None = Field(default=None, description="The model.")


class Cost(Model):
    """What the job used."""

    pod_seconds: int = Field(
        default=0, description="Seconds of all Pods of all attempts that ended, from the kubelet's start of a Pod."
    )
    gpu_seconds: int = Field(default=0, description="The same times the GPUs of a Pod.")
    wasted_pod_seconds: int = Field(default=0, description="Those of attempts that did not finish the job.")


class Status(Model):
    """What the operator saw and decided."""

    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that this status is about."
    )
    workload: str | None = Field(default=None, description="Name of the workload, for the printed column.")
    phase: Phase = Field(
        default=Phase.PENDING, description="Pending, Starting, Running, Restarting, Suspended, Succeeded or Failed."
    )
    reason: str | None = Field(
        default=None, description="Why the job is in this phase, from the closed list in the documentation."
    )
    message: Text | None = Field(default=None, description="The same for people: which index, node, exit code.")
    attempt: int = Field(default=0, description="The present attempt.")
    start_time: str | None = Field(
        default=None, description="When the present run began (RFC 3339); none while suspended."
    )
    attempt_time: str | None = Field(
        default=None, description="When the present attempt may begin (RFC 3339); in the future during back-off."
    )
    running_time: str | None = Field(
        default=None, description="When all workers of the present attempt were first seen running (RFC 3339)."
    )
    created_time: str | None = Field(
        default=None,
        description="When all Pods of the present attempt were first seen (RFC 3339); one that is gone later was deleted.",
    )
    waiting_time: str | None = Field(
        default=None,
        description="Since when an image cannot be pulled or a container cannot be configured (RFC 3339).",
    )
    scheduling_time: str | None = Field(
        default=None,
        description="Since when nodes are looked for (RFC 3339); none while a worker waits for its scheduling gates.",
    )
    hold_time: str | None = Field(
        default=None,
        description="Since when workers find no node while others of the job hold some, or after such an attempt (RFC 3339).",
    )
    template: str | None = Field(
        default=None, description="Digest of that part of the spec from which the workers of the attempt are made."
    )
    completion_time: str | None = Field(default=None, description="When the job ended (RFC 3339).")
    active_seconds: int = Field(default=0, description="Seconds in which all workers ran, of the attempts that ended.")
    duration: str | None = Field(default=None, description="From start to end, for the printed column.")
    workers: Workers = Field(default=Workers(), description="Worker Pods of the present attempt.")
    succeeded_indices: str = Field(
        default="", description="Workers of the present attempt that were seen to succeed, as ranges: 0-3,5."
    )
    restarts: RestartCounts = Field(default=RestartCounts(), description="Attempts that ended before the job did.")
    last_failure: LastFailure | None = Field(default=None, description="Why the last attempt ended.")
    progress: Progress | None = Field(default=None, description="How far the fit is.")
    result: Result | None = Field(default=None, description="What came out.")
    cost: Cost = Field(default=Cost(), description="What the job used.")
    conditions: list[ConditionStatus] = Field(
        default=[],
        description="Conditions.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
