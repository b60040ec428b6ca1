"""One table of specs that the CLI and the API server must judge alike."""

import copy
from dataclasses import dataclass
from typing import Any

VALID: dict[str, Any] = {
    "apiVersion": "scalejob.io/v1alpha1",
    "kind": "ScaleJob",
    "metadata": {"name": "job"},
    "spec": {
        "workload": {"kmeans": {"clusters": 3}},
        "data": {"synthetic": {"blobs": {"rows": 100, "features": 4}}},
        "output": {"uri": "/models/job"},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """VALID with the value at `path` replaced (None: removed), and what the refusal must name."""

    name: str
    path: str
    value: Any
    want: str

    def document(self) -> dict[str, Any]:
        document = copy.deepcopy(VALID)
        target: Any = document
        *parents, last = self.path.split(".")
        for part in parents:
            target = target.setdefault(part, {})
        if self.value is None:
            del target[last]
        else:
            target[last] = self.value
        return document


def _spec(name: str, path: str, value: Any, want: str) -> Case:
    return Case(name=name, path=f"spec.{path}", value=value, want=want)


COMMAND = {"argv": ["python", "train.py"]}
FILES = {"uri": "/data/x.parquet"}
VOLUME = {"name": "v", "emptyDir": {}}
MOUNT = {"name": "v", "mountPath": "/v"}

REFUSED = (
    _spec("no workers", "workers", 0, "spec.workers"),
    _spec("too many workers", "workers", 10_001, "spec.workers"),
    _spec("workers as text", "workers", "4", "spec.workers"),
    _spec("unknown field", "worker", 4, "worker"),
    _spec("unknown nested field", "workload.kmeans.clusers", 4, "clusers"),
    _spec("no workload", "workload", {}, "set exactly one workload"),
    _spec("two workloads", "workload.svm", {}, "set exactly one workload"),
    _spec("no data", "data", None, "data is needed"),
    _spec("no output", "output", None, "output is needed"),
    _spec("no time between two checkpoints", "checkpoint", {"everySeconds": 0}, "everySeconds"),
    Case(
        name="checkpoint of a command",
        path="spec",
        value={"workload": {"command": COMMAND}, "checkpoint": {}},
        want="checkpoint is for the trainer's own workloads",
    ),
    _spec("two sources", "data.files", FILES, "set exactly one source of data"),
    _spec("a password in a URI", "data", {"files": {"uri": "s3://me:secret@bucket/x.csv"}}, "uri must not hold a user"),
    _spec("a token in a URI", "data", {"files": {"uri": "https://token@host/x.csv"}}, "uri must not hold a user"),
    _spec(
        "a password after HTTP", "data", {"files": {"uri": "HTTP://me:secret@host/x.csv"}}, "uri must not hold a user"
    ),
    _spec("a web address as output", "output", {"uri": "https://host/m"}, "uri must be a place that can be written"),
    _spec(
        "a web address for checkpoints", "checkpoint", {"uri": "HTTP://h/c"}, "uri must be a place that can be written"
    ),
    _spec("a password in the output", "output", {"uri": "s3://me:secret@bucket/m"}, "uri must not hold a user"),
    _spec("a password for checkpoints", "checkpoint", {"uri": "s3://me:secret@b/c"}, "uri must not hold a user"),
    _spec("a cache that may be", "data.cache", {"mode": "sometimes"}, "mode"),
    _spec("a cache of no size", "data.cache", {"sizeLimit": "many"}, "sizeLimit"),
    _spec("no clusters", "workload.kmeans", {}, "clusters"),
    _spec("a task that does not exist", "workload", {"linear": {"task": "forest"}}, "task"),
    _spec(
        "class weights of a regression",
        "workload",
        {"linear": {"task": "regression", "classWeight": "balanced"}},
        "classWeight balanced needs task: classification",
    ),
    _spec(
        "several runs from the same centres",
        "workload.kmeans",
        {"clusters": 3, "init": "centers", "centersUri": "/c.npy", "restarts": 2},
        "restarts must be 1 with init: centers",
    ),
    _spec(
        "a password in the URI of centres",
        "workload.kmeans",
        {"clusters": 3, "init": "centers", "centersUri": "s3://me:secret@bucket/c.npy"},
        "centersUri must not hold a user",
    ),
    _spec("centres without a file", "workload.kmeans.init", "centers", "centersUri is needed"),
    _spec("C must be positive", "workload", {"svm": {"C": 0}}, "C"),
    _spec("gamma of the linear kernel", "workload", {"svm": {"gamma": 0.1}}, "gamma needs kernel: rbf"),
    _spec("landmarks of the linear kernel", "workload", {"svm": {"landmarks": 9}}, "landmarks needs kernel: rbf"),
    _spec("too many landmarks", "workload", {"svm": {"kernel": "rbf", "landmarks": 2001}}, "landmarks"),
    _spec("gamma of zero", "workload", {"svm": {"kernel": "rbf", "gamma": 0}}, "gamma"),
    _spec(
        "mini-batches of the exact solver",
        "workload",
        {"linear": {"task": "regression", "sgd": {"epochs": 3}}},
        "sgd needs solver: sgd",
    ),
    _spec(
        "no epochs",
        "workload",
        {"linear": {"task": "regression", "solver": "sgd", "sgd": {"epochs": 0}}},
        "epochs",
    ),
    _spec(
        "l1 of a classifier", "workload", {"linear": {"task": "classification", "l1": 1}}, "l1 needs task: regression"
    ),
    _spec(
        "l1 of mini-batches", "workload", {"linear": {"task": "regression", "solver": "sgd", "l1": 1}}, "solver: exact"
    ),
    _spec("empty argv", "workload", {"command": {"argv": []}}, "argv"),
    _spec("fraction of one", "validation", {"fraction": 1}, "fraction"),
    Case(
        name="label missing",
        path="spec",
        value={"workload": {"svm": {}}, "data": {"files": FILES}, "output": {"uri": "/m"}},
        want="label",
    ),
    _spec("no kind of synthetic data", "data", {"synthetic": {}}, "set exactly one kind of synthetic data"),
    _spec(
        "more informative and redundant features than there are",
        "data",
        {"synthetic": {"classification": {"rows": 9, "features": 2, "redundant": 2}}},
        "informative + redundant must not exceed",
    ),
    _spec(
        "too many informative features",
        "data",
        {"synthetic": {"regression": {"rows": 9, "features": 2, "informative": 3}}},
        "informative must not exceed",
    ),
    Case(
        name="nccl with fewer GPUs than processes",
        path="spec",
        value=VALID["spec"] | {"rendezvous": {"backend": "nccl"}, "gpus": {"perWorker": 2}, "processesPerWorker": 3},
        want="nccl needs a GPU for every process",
    ),
    _spec("nccl without GPUs", "rendezvous", {"backend": "nccl"}, "nccl needs a GPU"),
    _spec("the port of the progress", "rendezvous", {"port": 29480}, "rendezvous.port 29480 is taken"),
    _spec("a time beyond the calendar", "ttlSecondsAfterFinished", 10**12, "spec.ttlSecondsAfterFinished"),
    _spec("a deadline beyond the calendar", "deadlines", {"activeSeconds": 10**12}, "spec.deadlines.activeSeconds"),
    _spec("back-off above its maximum", "restarts", {"backoffSeconds": 90}, "must not exceed"),
    _spec("disruptions as another word", "restarts", {"disruptions": "never"}, "unlimited"),
    _spec("processes as another word", "processesPerWorker", "many", "auto"),
    _spec("reserved variable", "pod", {"env": [{"name": "RANK", "value": "1"}]}, "reserved"),
    _spec("volume without source", "pod", {"volumes": [{"name": "v"}]}, "exactly one source of the volume"),
    _spec("host path", "pod", {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "hostPath"),
    _spec(
        "a name that the operator uses", "pod", {"volumes": [{"name": "scalejob-tmp", "emptyDir": {}}]}, "are reserved"
    ),
    _spec("a mount of no volume", "pod", {"volumeMounts": [MOUNT]}, "must name one of volumes"),
    _spec("two volumes of one name", "pod", {"volumes": [VOLUME, VOLUME]}, "no two entries of volumes"),
    _spec(
        "two mounts in one place",
        "pod",
        {"volumes": [VOLUME], "volumeMounts": [MOUNT, MOUNT]},
        "no two entries of volumeMounts",
    ),
    _spec(
        "a variable with two values",
        "pod",
        {"env": [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
        "set value or valueFrom",
    ),
    _spec("GPUs among the limits", "pod", {"resources": {"limits": {"nvidia.com/gpu": 1}}}, "asked for by spec.gpus"),
    _spec("GPUs among the requests", "pod", {"resources": {"requests": {"amd.com/gpu": 1}}}, "asked for by spec.gpus"),
    _spec("reserved annotation", "pod", {"annotations": {"scalejob.io/x": "x"}}, "annotations under scalejob.io/"),
    _spec("reserved label", "pod", {"labels": {"scalejob.io/job": "x"}}, "reserved"),
    _spec(
        "a worker without AppArmor",
        "pod",
        {"annotations": {"container.apparmor.security.beta.kubernetes.io/worker": "unconfined"}},
        "annotations of AppArmor are not allowed",
    ),
    _spec("quantity that is none", "pod", {"resources": {"limits": {"memory": "4Gx"}}}, "memory"),
    _spec("GPU resource without domain", "gpus", {"resource": "gpu"}, "resource"),
    Case(name="name too long", path="metadata.name", value="a" * 41, want="at most 40"),
    Case(name="name begins with a digit", path="metadata.name", value="1job", want="begins with a letter"),
)

ACCEPTED = (
    _spec("float without a point", "workload.kmeans.tolerance", 0, ""),
    _spec("command without data", "workload", {"command": COMMAND}, ""),
    _spec("cache", "data.cache", {"mode": "always", "path": "/scratch", "sizeLimit": "50Gi"}, ""),
    _spec("checkpoint by default", "checkpoint", {}, ""),
    _spec(
        "kernel SVM with all its fields",
        "workload",
        {"svm": {"kernel": "rbf", "gamma": 0.1, "landmarks": 9}},
        "",
    ),
    _spec(
        "mini-batches with all their fields",
        "workload",
        {
            "linear": {
                "task": "classification",
                "solver": "sgd",
                "sgd": {"epochs": 3, "batchRows": 100, "learningRate": 0.5},
            }
        },
        "",
    ),
    _spec("elastic net", "workload", {"linear": {"task": "regression", "l1": 1, "l2": 0.5}}, ""),
    _spec("gpus by default", "gpus", {}, ""),
    _spec("processes as a number", "processesPerWorker", 4, ""),
    _spec("processes by word", "processesPerWorker", "auto", ""),
    _spec("number of disruptions", "restarts", {"disruptions": 5}, ""),
    _spec(
        "quantities", "pod", {"resources": {"limits": {"cpu": 2, "memory": "1.5Gi"}, "requests": {"cpu": "500m"}}}, ""
    ),
    _spec(
        "volumes",
        "pod",
        {
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
            "volumeMounts": [{"name": "v", "mountPath": "/models"}],
        },
        "",
    ),
    _spec("affinity of any form", "pod", {"affinity": {"nodeAffinity": {}}}, ""),
    Case(name="longest name", path="metadata.name", value="a" * 40, want=""),
)
