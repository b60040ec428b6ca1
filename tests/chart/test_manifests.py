"""What users apply, held against Kubernetes' own schemas and the Pod Security Standard."""

from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from charts.plain_manifest import NAMESPACE, TARGET
from charts.plain_manifest import render as render_plain
from scalejob.api.crd import build_crd
from tests.chart.types import Object, Render
from tests.tools import ROOT, find_tool

KUBERNETES = "1.34"
SAMPLES = sorted((ROOT / "manifests" / "samples").rglob("*.yaml"))


def plain() -> list[Object]:
    return list(yaml.safe_load_all(TARGET.read_text()))


def validate(document: Object) -> None:
    """Unknown fields are errors; raises what the validator raises."""
    if document["kind"] == "ScaleJob":
        schema = build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        jsonschema.Draft4Validator(schema).validate(document)  # the dialect of CRDs
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_plain_manifest_is_the_chart():
    """manifests/operator.yaml is what the chart renders today."""
    assert TARGET.read_text() == render_plain(find_tool("helm"))


def test_plain_manifest_is_complete():
    """One `kubectl apply` makes the namespace first, and everything else in it or above."""
    first, *others = plain()
    assert (first["kind"], first["metadata"]["name"]) == ("Namespace", NAMESPACE)
    assert {o["metadata"].get("namespace", NAMESPACE) for o in others} == {NAMESPACE}


def test_plain_manifest_is_not_helms():
    """Nothing in it claims to belong to a Helm release."""
    assert "Helm" not in TARGET.read_text()


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("watch.namespaces={a,b}", "priorityClassName=high", "imagePullSecrets[0].name=s"),
        ("metrics.service.enabled=true", "metrics.dashboard.enabled=true"),
    ],
)
def test_chart_against_kubernetes(render: Render, settings: tuple[str, ...]):
    """Kubernetes knows every field of every object that the chart makes."""
    for document in render(*settings, "crds.install=false"):
        validate(document)


@pytest.mark.parametrize("path", [TARGET, *SAMPLES], ids=lambda path: path.name)
def test_file_against_kubernetes(path: Path):
    """Kubernetes, or our own definition, knows every field of the files that users apply."""
    for document in yaml.safe_load_all(path.read_text()):
        validate(document)


def test_operator_is_restricted():
    """The operator's Pod meets the restricted Pod Security Standard, and its root is read-only."""
    (pod,) = [o["spec"]["template"]["spec"] for o in plain() if o["kind"] == "Deployment"]
    (container,) = pod["containers"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(pod)
