"""Jobs with defaults that suit."""

from typing import Any

from scalejob.api.v1alpha1 import ScaleJob


def make_job(**spec: Any) -> ScaleJob:
    """A K-Means job of two workers with its output on a mounted claim; `spec` replaces fields."""
    mounted: dict[str, Any] = {
        "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    }
    defaults = {
        "workload": {"kmeans": {"clusters": 3}},
        "data": {"synthetic": {"blobs": {"rows": 100, "features": 4}}},
        "output": {"uri": "/models/a"},
        "workers": 2,
        "pod": mounted,
    }
    document = {
        "apiVersion": "scalejob.io/v1alpha1",
        "kind": "ScaleJob",
        "metadata": {"name": "job"},
        "spec": defaults | spec,
    }
    return ScaleJob.model_validate(document)


def make_command(*argv: str, **spec: Any) -> ScaleJob:
    return make_job(workload={"command": {"argv": list(argv)}}, **spec)
