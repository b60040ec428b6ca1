"""Who brings N Pods to life when one object is applied: our operator, the Job controller, JobSet's controller."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scalejob.contract import LABEL_JOB
from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import Object, Resource
from tests.controlplane.api import make_job

JOBS = Resource("batch/v1", "jobs")
JOBSETS = Resource("jobset.x-k8s.io/v1alpha2", "jobsets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of them. `users` are those whose requests it takes: names in the audit log."""

    name: str
    resource: Resource
    make: Callable[[str, int], Object]  # of a name and a number of workers
    label: str  # of its Pods; the value is the name of the object
    users: tuple[str, ...]


def _scalejob(name: str, workers: int) -> Object:
    return make_job(name, workers=workers, keepPods="All")


def _indexed_job(name: str, workers: int) -> Object:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": _job_spec(workers)}


def _jobset(name: str, workers: int) -> Object:
    """Whole, as its webhooks would make it: they do not run here."""
    replicated: dict[str, Any] = {"name": "w", "replicas": 1, "groupName": "default"}
    spec = {
        "replicatedJobs": [replicated | {"template": {"spec": _job_spec(workers)}}],
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
        "successPolicy": {"operator": "All"},
        "startupPolicy": {"startupPolicyOrder": "AnyOrder"},
        "failurePolicy": {"maxRestarts": 1000},
    }
    return {
        "apiVersion": JOBSETS.group_version,
        "kind": "JobSet",
        "metadata": {"name": name},
        "spec": spec,
    }


def _job_spec(workers: int) -> Object:
    """As much of a Pod as a trainer needs at least."""
    container = {"name": "worker", "image": "trainer", "command": ["train"], "ports": [{"containerPort": 29500}]}
    return {
        "completionMode": "Indexed",
        "completions": workers,
        "parallelism": workers,
        "backoffLimit": 0,
        "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
    }


OURS = Side(
    name="ScaleJob",
    resource=SCALEJOBS,
    make=_scalejob,
    label=LABEL_JOB,
    users=("system:serviceaccount:scalejob-system:scalejob-operator",),
)
INDEXED_JOB = Side(
    name="Indexed Job", resource=JOBS, make=_indexed_job, label="batch.kubernetes.io/job-name", users=("kcm",)
)
JOBSET = Side(
    name="JobSet",
    resource=JOBSETS,
    make=_jobset,
    label="jobset.sigs.k8s.io/jobset-name",
    users=("kcm", "system:serviceaccount:kube-system:jobset"),
)
