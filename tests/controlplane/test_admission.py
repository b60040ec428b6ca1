"""What is refused before a job exists: by the CustomResourceDefinition, as the CLI does, and by a platform's policy."""

import asyncio
import copy
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
import yaml

from scalejob.api.check import InvalidFile, parse
from scalejob.api.crd import Schema, open_api_schema
from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import Object
from scalejob.kube.errors import ApiError, Invalid
from tests.controlplane.api import NAMESPACES, Api, Jobs, make_job
from tests.controlplane.control_plane import ControlPlane
from tests.tools import ROOT
from tests.unit.api.cases import VALID

SPEC = open_api_schema()["properties"]["spec"]
FILES = {"uri": "/data/x.parquet", "format": "parquet", "label": "y", "features": ["a"], "weight": "w"}
DATA = {"files": FILES, "cache": {"mode": "auto", "path": "/scratch", "sizeLimit": "5Gi"}}
PREPARE = {"missing": "mean", "scale": "standard", "pca": {"components": 2}}
SGD = {"task": "regression", "l2": 0.5, "solver": "sgd", "sgd": {"batchRows": 10}}
CENTERS = {"clusters": 3, "init": "centers", "centersUri": "/c.npy"}
SYNTHETIC = (
    {"blobs": {"rows": 9, "features": 4}},
    {"classification": {"rows": 9, "features": 4, "informative": 2}},
    {"regression": {"rows": 9, "features": 4, "informative": 2}},
)
POD = {
    "image": "i",
    "imagePullPolicy": "Always",
    "imagePullSecrets": [{"name": "s"}],
    "resources": {"requests": {"cpu": 1}, "limits": {"cpu": "2"}},
    "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {}}],
    "envFrom": [{}],
    "volumes": [
        {"name": f"v{i}", source: {}}
        for i, source in enumerate(("persistentVolumeClaim", "emptyDir", "configMap", "secret", "csi", "projected"))
    ],
    "volumeMounts": [{"name": "v1", "mountPath": "/m", "subPath": "s", "readOnly": True}],
    "sharedMemory": "1Gi",
    "nodeSelector": {"a": "b"},
    "tolerations": [
        {"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 5}
    ],
    "affinity": {},
    "topologySpreadConstraints": [{}],
    "priorityClassName": "p",
    "schedulerName": "s",
    "schedulingGates": [{"name": "example.com/g"}],
    "runtimeClassName": "r",
    "serviceAccountName": "a",
    "labels": {"a": "b"},
    "annotations": {"a": "b"},
    "terminationGracePeriodSeconds": 5,
}  # fmt: skip
LIFE = {
    "gpus": {"perWorker": 2},
    "deadlines": {"activeSeconds": 5, "schedulingSeconds": 5},
    "ttlSecondsAfterFinished": 5,
}
# Valid specs that between them have every field.
SPECS: tuple[Object, ...] = (
    {"workload": {"linear": SGD}, "data": DATA, "output": {"uri": "/m"}, "prepare": PREPARE, "validation": {}},
    {"workload": {"linear": {"task": "regression", "l1": 1}}, "data": DATA, "output": {"uri": "/m"}},
    {"workload": {"svm": {"kernel": "rbf", "gamma": 1, "landmarks": 5}}, "data": DATA, "output": {"uri": "/m"}},
    *(VALID["spec"] | {"workload": {"kmeans": CENTERS}, "data": {"synthetic": source}} for source in SYNTHETIC),
    VALID["spec"] | {"checkpoint": {"uri": "/c"}},
    {"workload": {"command": {"argv": ["a"]}}, "pod": POD} | LIFE,
)


def filled(schema: Schema, value: Any) -> Any:
    """`value` with the defaults of all fields written out, so that those can be made wrong, too."""
    if isinstance(value, list):
        return [filled(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return value
    children = schema.get("properties", {})
    defaults = {name: child["default"] for name, child in children.items() if "default" in child}
    return {name: filled(children.get(name, {}), item) for name, item in (copy.deepcopy(defaults) | value).items()}


def wrong_values(schema: Schema) -> Iterator[Any]:
    """What the schema says no to, one for each of its words."""
    if schema.get("x-kubernetes-int-or-string"):
        yield from ("no such", -1, 1.5, True, [])
        return
    yield {"string": 7, "boolean": "true", "array": {}, "object": [], "integer": "4", "number": "4"}[schema["type"]]
    if schema["type"] == "integer":
        yield 1.5
    for bound, beyond in (("minimum", -1), ("maximum", 1)):
        if bound in schema:
            yield schema[bound] + beyond
    if schema.get("exclusiveMinimum"):
        yield schema["minimum"]
    if schema.get("exclusiveMaximum"):
        yield schema["maximum"]
    if "enum" in schema:
        yield "no such"
    if "pattern" in schema:
        yield "!"
    if "minLength" in schema:
        yield ""
    if "maxLength" in schema:
        yield "a" * (schema["maxLength"] + 1)
    if "minItems" in schema:
        yield []
    if "additionalProperties" in schema:
        yield {"k": []}
    if schema["type"] == "object" and "properties" in schema:
        yield {"no-such-field": 1}


def mutations(
    schema: Schema, value: Any, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """(path, wrong value) for everything in `value`; None stands for a field that is left out."""
    if path:
        yield from ((path, wrong) for wrong in wrong_values(schema))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from mutations(schema["items"], item, (*path, index))
    for name, child in schema.get("properties", {}).items():
        if name in value:
            yield from mutations(child, value[name], (*path, name))
    yield from (((*path, name), None) for name in schema.get("required", ()))


def changed(spec: Object, path: tuple[str | int, ...], wrong: Any) -> Object:
    document = copy.deepcopy(VALID | {"spec": spec})
    *parents, last = path
    target = document["spec"]
    for part in parents:
        target = target[part]
    if wrong is None:
        del target[last]
    else:
        target[last] = wrong
    return document


def cli_accepts(document: Object) -> bool:
    try:
        return bool(parse(yaml.safe_dump(document)))
    except InvalidFile:
        return False


async def api_accepts(api: Api, document: Object) -> bool:
    """As kubectl does: unknown fields are errors. Nothing is stored."""
    try:
        await api.raw("POST", SCALEJOBS.path("default"), body=document, dryRun="All", fieldValidation="Strict")
    except Invalid:
        return False
    return True


def fields(schema: Schema, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all fields; 0 stands for any entry of a list."""
    for name, child in schema.get("properties", {}).items():
        yield (*path, name)
        yield from fields(child, (*path, name))
    if "items" in schema:
        yield from fields(schema["items"], (*path, 0))


async def test_cli_and_api_server_refuse_the_same_values(api: Api):
    """Every field of the spec, made wrong in every way that its schema knows: no value passes one of them only."""
    bases = [filled(SPEC, spec) for spec in SPECS]
    assert [spec for spec in bases if not await api_accepts(api, VALID | {"spec": spec})] == []
    wrong = list({str(m): (base, *m) for base in bases for m in mutations(SPEC, base)}.values())
    assert {tuple(0 if isinstance(part, int) else part for part in path) for _, path, _ in wrong} >= set(fields(SPEC))
    documents = [changed(*mutation) for mutation in wrong]
    answers = [
        await asyncio.gather(*(api_accepts(api, document) for document in chunk))
        for chunk in (documents[i : i + 16] for i in range(0, len(documents), 16))
    ]
    verdicts = zip(wrong, documents, itertools.chain.from_iterable(answers), strict=True)
    assert [(path, value) for (_, path, value), doc, accepted in verdicts if accepted or cli_accepts(doc)] == []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def limited(api: Api, control_plane: ControlPlane) -> AsyncIterator[Jobs]:
    """A namespace of at most 4 workers and 8 GPUs in a job, once the API server heeds the policy."""
    control_plane.kubectl("apply", "-f", str(ROOT / "manifests" / "policies" / "limits.yaml"))
    await api.new_namespace("limited", {"scalejob.io/max-workers": "4", "scalejob.io/max-gpus": "8"})
    jobs = Jobs(api, "limited")

    async def is_heeded() -> bool:
        return bool(await refusal(jobs, workers=5))

    await api.until(is_heeded)
    yield jobs
    control_plane.kubectl("delete", "-f", str(ROOT / "manifests" / "policies" / "limits.yaml"))


async def refusal(jobs: Jobs, **spec: Any) -> str:
    """Why the API server does not take such a job; empty if it does. Nothing is stored."""
    try:
        await jobs.api.raw("POST", SCALEJOBS.path(jobs.namespace), body=make_job(**spec), dryRun="All")
    except ApiError as error:
        return error.message
    return ""


class TestLimits:
    async def test_a_job_of_too_many_workers_is_refused(self, limited: Jobs):
        """In words that say what was asked for and what is allowed."""
        assert "spec.workers is 5; a job in this namespace may have at most 4" in await refusal(limited, workers=5)
        assert await refusal(limited, workers=4) == ""

    async def test_a_job_of_too_many_gpus_is_refused(self, limited: Jobs):
        """Of all workers together."""
        said = await refusal(limited, workers=3, gpus={"perWorker": 3})
        assert "spec.gpus.perWorker times spec.workers is 9; a job in this namespace may have at most 8" in said
        assert await refusal(limited, workers=2, gpus={"perWorker": 4}) == ""

    async def test_others_have_no_limit(self, limited: Jobs, jobs: Jobs):
        """A namespace without the labels."""
        assert await refusal(jobs, workers=500, gpus={"perWorker": 8}) == ""

    async def test_a_job_cannot_grow_beyond_the_limit(self, limited: Jobs, control_plane: ControlPlane):
        """Neither by an edit nor by `kubectl scale`, which shows no GPUs and so may only make it smaller here."""
        await limited.create("grows", workers=2, suspend=True)
        with pytest.raises(ApiError, match=r"spec\.workers is 5"):
            await limited.patch("grows", workers=5)
        await limited.patch("grows", workers=3)
        scale = ("-n", limited.namespace, "scale", "sj/grows")
        assert "spec.workers is 9" in control_plane.kubectl(*scale, "--replicas=9", check=False).stderr
        assert "may only make a job smaller" in control_plane.kubectl(*scale, "--replicas=4", check=False).stderr
        control_plane.kubectl(*scale, "--replicas=1")
        await limited.delete("grows")

    async def test_a_job_that_was_there_before_may_be_suspended(self, limited: Jobs):
        """A new limit holds no one to what he has."""
        namespace: Object = {"metadata": {"labels": {"scalejob.io/max-workers": "1"}}}
        await limited.create("old", workers=3)
        await limited.api.client.merge_patch(NAMESPACES, None, limited.namespace, namespace)
        await limited.api.until(lambda: refusal(limited, workers=2))
        await limited.patch("old", suspend=True)
        await limited.patch("old", workers=2)
        await limited.delete("old")
        namespace["metadata"]["labels"]["scalejob.io/max-workers"] = "4"
        await limited.api.client.merge_patch(NAMESPACES, None, limited.namespace, namespace)


def test_a_refusal_is_shown_by_kubectl(limited: Jobs, control_plane: ControlPlane):
    """Whoever applies the file reads it."""
    text = json.dumps(make_job(workers=5))
    said = control_plane.kubectl("-n", limited.namespace, "apply", "-f", "-", stdin=text, check=False)
    assert said.returncode != 0
    assert "a job in this namespace may have at most 4" in said.stderr
