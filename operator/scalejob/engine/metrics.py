"""Prometheus metrics. Labels are bounded: no names of jobs, nodes or images. Counted after the fact is stored."""

from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scalejob.api.v1alpha1 import Status
from scalejob.contract import Phase, Reason
from scalejob.plan.failures import CLASSES
from scalejob.plan.model import Job

from .jobs import JobStore

# Each would be a series more of every counter and histogram, of a name that nobody asked for.
disable_created_metrics()

_START_BUCKETS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
_DURATION_BUCKETS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
_RECONCILE_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30)


class Metrics:
    """All metrics of one operator, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        finished = ["namespace", "workload", "result", "reason"]
        self._finished = self._counter("jobs_finished", "Jobs that ended.", finished)
        self._restarts = self._counter("restarts", "New attempts, by what ended the one before.", ["class"])
        for class_ in sorted({known.reason for known in CLASSES if not known.is_final} | {Reason.UNSCHEDULABLE}):
            self._restarts.labels(class_)  # at 0: `increase` does not see the step of a series that begins with 1
        self._gpu_seconds = self._counter("gpu_seconds", "GPU seconds of Pods that ended.")
        self._created = self._counter("pods_created", "Pods created.")
        self._requests = self._counter("api_requests", "Requests to the API server.", ["verb", "resource", "code"])
        self._start = self._histogram("start_latency", "From creation to all workers running.", _START_BUCKETS)
        self._duration = self._histogram("duration", "From start to end of a job.", _DURATION_BUCKETS)
        self.reconcile_duration = self._histogram("reconcile_duration", "One reconcile.", _RECONCILE_BUCKETS)
        self.reconcile_errors = self._counter("reconcile_errors", "Reconciles that failed and will be tried again.")

    def follow(self, jobs: JobStore, depth: Callable[[], int], is_leading: Callable[[], bool]) -> None:
        """Show the jobs, the depth of the queue and who leads as they are at the time of a scrape."""
        self.registry.register(_JobCollector(jobs))
        self._gauge("queue_depth", "Jobs that wait for a worker.").set_function(depth)
        self._gauge("leader", "1 if this process acts on jobs.").set_function(is_leading)

    def observe_request(self, verb: str, resource: str, code: int, _seconds: float) -> None:
        """One request to the API server; code 0: no answer."""
        self._requests.labels(verb, resource, str(code)).inc()

    def count_created(self) -> None:
        """A Pod that now exists, and did not before."""
        self._created.inc()

    def count_transition(self, job: Job, new: Status) -> None:
        """A status that is now stored."""
        old = job.status
        self._gpu_seconds.inc(max(0, new.cost.gpu_seconds - old.cost.gpu_seconds))
        if new.restarts.total > old.restarts.total and new.last_failure:
            self._restarts.labels(new.last_failure.class_).inc(new.restarts.total - old.restarts.total)
        if new.phase is Phase.RUNNING and old.running_time is None and new.attempt == 0:
            self._start.observe(_seconds_since(job.created))
        if new.phase.is_finished and not old.phase.is_finished:
            self._count_end(job, new)

    def _count_end(self, job: Job, new: Status) -> None:
        workload = job.spec.workload.name
        self._finished.labels(job.namespace, workload, new.phase.value, new.reason or "").inc()
        if new.start_time:
            self._duration.observe(_seconds_since(datetime.fromisoformat(new.start_time)))

    def _counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        return Counter(f"scalejob_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"scalejob_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"scalejob_{name}_seconds", text, buckets=buckets, registry=self.registry)


class _JobCollector(Collector):
    """`scalejob_jobs`: counted at each scrape, so that it cannot drift from the store."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        """One gauge for each namespace, workload and phase that has a job."""
        family = GaugeMetricFamily("scalejob_jobs", "Jobs that exist.", labels=["namespace", "workload", "phase"])
        readable = (job for job in self._jobs if isinstance(job, Job))
        counts = Count((job.namespace, job.spec.workload.name, job.status.phase.value) for job in readable)
        for labels, count in counts.items():
            family.add_metric(labels, count)
        yield family


def _seconds_since(time: datetime) -> float:
    return max(0.0, (datetime.now(UTC) - time).total_seconds())
