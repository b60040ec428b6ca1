"""A job that takes long enough to be disturbed."""

from tests.e2e.cluster import Cluster, Object

SOME_STEPS = 2


def long_job(name: str) -> Object:
    """Most of a minute of K-Means on two cores: points without clusters, so that it converges slowly.

    The status tells of the steps every five seconds: a job of ten may be over before anybody can strike.
    """
    return {
        "apiVersion": "scalejob.io/v1alpha1",
        "kind": "ScaleJob",
        "metadata": {"name": name},
        "spec": {
            "workload": {"kmeans": {"clusters": 250, "maxIterations": 250, "tolerance": 0}},
            "data": {"synthetic": {"blobs": {"rows": 1_000_000, "features": 32, "centers": 1}}},
            "output": {"uri": f"/models/{name}"},
            "workers": 2,
            "keepPods": "None",
            "pod": {
                "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
                "volumeMounts": [{"name": "models", "mountPath": "/models"}],
            },
        },
    }


def is_in_the_middle(status: Object) -> bool:
    """Some steps of the fit are done."""
    return status.get("phase") == "Running" and status.get("progress", {}).get("step", 0) >= SOME_STEPS


def finish(cluster: Cluster, job: str) -> Object:
    """The job's last status; then it is deleted, and nothing of it is left."""
    status = cluster.wait_for_phase(job, "Succeeded", seconds=300)
    cluster.run("delete", "sj", job)
    cluster.wait_until_gone(job)
    return status
