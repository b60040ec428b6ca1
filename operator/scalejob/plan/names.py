"""Names and labels of what a job owns. Deterministic: creating a thing twice is a conflict, not a duplicate."""

from scalejob.contract import (
    LABEL_APP,
    LABEL_APP_INSTANCE,
    LABEL_APP_MANAGED_BY,
    LABEL_ATTEMPT,
    LABEL_COMPLETION_INDEX,
    LABEL_INDEX,
    LABEL_JOB,
    MANAGED_BY,
)

APP_NAME = "scalejob"
MANAGED_BY_LABEL = MANAGED_BY.replace("/", "-")  # a label value has no slash


def service_name(job_name: str) -> str:
    """The headless Service, which is also the subdomain of the Pods."""
    return job_name


def pod_name(job_name: str, attempt: int, index: int) -> str:
    """Also the hostname. Fits a DNS label since names of jobs have at most 40 characters."""
    return f"{job_name}-{attempt}-{index}"


def identity_of(name: str, job_name: str) -> tuple[int, int]:
    """(attempt, index) of a Pod's name, which cannot be edited as labels can; (-1, -1) if no worker of the job is called so."""
    _, *numbers = name.rsplit("-", 2)
    if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
        attempt, index = map(int, numbers)
        if name == pod_name(job_name, attempt, index):
            return attempt, index
    return -1, -1


def leader_host(namespace: str, job_name: str, attempt: int) -> str:
    """The host of rank 0. Without the cluster's domain, which a resolver adds."""
    return f"{pod_name(job_name, attempt, 0)}.{service_name(job_name)}.{namespace}.svc"


def selector(job_name: str) -> dict[str, str]:
    """Labels of all Pods of a job."""
    return {LABEL_JOB: job_name}


def selector_text(job_name: str) -> str:
    """The same in the form of `kubectl get pods -l`."""
    return ",".join(f"{key}={value}" for key, value in selector(job_name).items())


def job_labels(job_name: str) -> dict[str, str]:
    """On everything that belongs to a job."""
    return selector(job_name) | {
        LABEL_APP: APP_NAME,
        LABEL_APP_INSTANCE: job_name,
        LABEL_APP_MANAGED_BY: MANAGED_BY_LABEL,
    }


def pod_labels(job_name: str, attempt: int, index: int) -> dict[str, str]:
    return job_labels(job_name) | {
        LABEL_ATTEMPT: str(attempt),
        LABEL_INDEX: str(index),
        LABEL_COMPLETION_INDEX: str(index),
    }
