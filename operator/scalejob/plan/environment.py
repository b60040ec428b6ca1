"""The environment of a worker: every variable of the contract, whatever optional blocks the job has."""

import json
import math
from decimal import Decimal

from scalejob.api.v1alpha1 import Spec
from scalejob.api.v1alpha1.pod import quantity
from scalejob.contract import Env

from .model import Job
from .names import leader_host

# A root that is read-only and a uid that no image knows need a home and a name from elsewhere: torch asks for both.
WRITABLE_HOME = {"HOME": "/tmp", "XDG_CACHE_HOME": "/tmp/.cache", "USER": "scalejob", "PYTHONUNBUFFERED": "1"}  # noqa: S108

# Linux starts no program with a longer variable (MAX_ARG_STRLEN: 32 pages, with name and closing zero).
MAX_TASK_BYTES = 32 * 4096 - len(f"{Env.SPEC}=") - 1

DEFAULT_GRACE_SECONDS = 30  # Kubernetes' own


def num_threads(spec: Spec) -> int:
    """Threads of one process: its share of the CPU limit (or, without one, of the request), at least 1."""
    resources = spec.pod.resources
    bounds = (resources.limits, resources.requests) if resources else ()
    cpus = next((quantity(bound["cpu"]) for bound in bounds if bound and "cpu" in bound), Decimal(1))
    return max(1, math.floor(cpus / spec.num_processes_per_worker))


def task_text(spec: Spec) -> str:
    """SCALEJOB_SPEC, in ASCII."""
    return json.dumps(spec.task_json(), separators=(",", ":"))


def grace_seconds(spec: Spec) -> int:
    """Seconds between SIGTERM and SIGKILL."""
    given = spec.pod.termination_grace_period_seconds
    return DEFAULT_GRACE_SECONDS if given is None else given


def build_environment(job: Job, attempt: int, index: int) -> dict[str, str]:
    """Name -> value, for every process of worker `index`. The names are reserved: a user's cannot clash."""
    spec, threads = job.spec, str(num_threads(job.spec))
    host, port = leader_host(job.namespace, job.name, attempt), str(spec.rendezvous.port)
    processes = str(spec.num_processes_per_worker)
    return {
        Env.MASTER_ADDR: host,
        Env.MASTER_PORT: port,
        **_ranks(spec, index),
        Env.PET_NNODES: str(spec.workers),
        Env.PET_NPROC_PER_NODE: processes,
        Env.PET_NODE_RANK: str(index),
        Env.PET_MASTER_ADDR: host,
        Env.PET_MASTER_PORT: port,
        Env.TORCH_DISABLE_SHARE_RDZV_TCP_STORE: "1",
        Env.JOB_COMPLETION_INDEX: str(index),
        Env.NAME: job.name,
        Env.NAMESPACE: job.namespace,
        Env.UID: job.uid,
        Env.ATTEMPT: str(attempt),
        Env.INDEX: str(index),
        Env.WORKERS: str(spec.workers),
        Env.SPEC: task_text(spec),
        Env.GRACE_SECONDS: str(grace_seconds(spec)),
        Env.OMP_NUM_THREADS: threads,
        Env.MKL_NUM_THREADS: threads,
    }


def _ranks(spec: Spec, index: int) -> dict[str, str]:
    """The identity of the only process of a worker; several get theirs from the launcher that starts them."""
    if spec.num_processes_per_worker > 1:
        return {}
    return {
        Env.WORLD_SIZE: str(spec.world_size),
        Env.RANK: str(index),
        Env.LOCAL_RANK: "0",
        Env.LOCAL_WORLD_SIZE: "1",
        Env.GROUP_RANK: str(index),
        Env.NODE_RANK: str(index),
        Env.GROUP_WORLD_SIZE: str(spec.workers),
    }
