"""The chart as Helm sees it."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.plain_manifest import CHART, KUBE_VERSION
from scalejob.api.crd import build_crd
from scalejob.engine.options import Options
from tests.chart.types import Helm, Object, Render
from tests.tools import ROOT

VERSION = version("scalejob")

TYPOS = {
    "at the top": ("wach.namespaces={a}", "wach"),
    "inside a section": ("image.repo=x", "repo"),
    "a tag with a space": ("image.tag=a b", "/image/tag"),
    "a digest that is none": ("image.digest=sha256:abc", "/image/digest"),
    "a namespace that is none": ("watch.namespaces={Team_A}", "/watch/namespaces/0"),
    "a level that is none": ("log.level=verbose", "/log/level"),
    "no requests at all": ("api.qps=0", "/api/qps"),
    "text for a boolean": ("crds.install=maybe", "/crds/install"),
}


def deployment(objects: list[Object]) -> Object:
    return next(o for o in objects if o["kind"] == "Deployment")


def operator(objects: list[Object]) -> Object:
    """The container of the operator."""
    (container,) = deployment(objects)["spec"]["template"]["spec"]["containers"]
    return container


def keys_of(value: Any, path: str = "") -> set[str]:
    """Dotted paths of values.yaml; the maps that are free are empty there, but for the resources."""
    if not isinstance(value, dict) or not value or path == ".resources":
        return {path}
    return {leaf for key, inner in value.items() for leaf in keys_of(inner, f"{path}.{key}")}


def keys_of_schema(schema: Object, path: str = "") -> set[str]:
    """The same of values.schema.json."""
    if "properties" not in schema or path == ".resources":
        return {path}
    return {leaf for key, inner in schema["properties"].items() for leaf in keys_of_schema(inner, f"{path}.{key}")}


def test_lint(helm: Helm):
    """Warnings count as errors."""
    done = helm("lint", "--strict", "--kube-version", KUBE_VERSION, CHART)
    assert done.returncode == 0, done.stdout


def test_package(helm: Helm, tmp_path: Path):
    """The chart packs into one archive that carries the version of the project."""
    helm("package", CHART, "--destination", tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == [f"scalejob-{VERSION}.tgz"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("charts/scalejob/Chart.yaml", f"appVersion: {VERSION}"),
        ("Dockerfile", f'version="{VERSION}"'),
        ("manifests/operator.yaml", f"image: scalejob/operator:{VERSION}"),
        ("manifests/samples/data/loader.yaml", f"image: scalejob/trainer:{VERSION}"),
    ],
)
def test_one_version(file: str, text: str):
    """Everything that names a version names that of the project."""
    assert text in (ROOT / file).read_text()


@pytest.mark.parametrize(("setting", "named"), TYPOS.values(), ids=TYPOS.keys())
def test_schema_refuses(helm: Helm, setting: str, named: str):
    """A wrong value is refused, and the message names it."""
    done = helm("template", "x", CHART, "--kube-version", KUBE_VERSION, "--set", setting)
    assert done.returncode != 0
    assert named in done.stderr


def test_schema_knows_every_value():
    """values.yaml and values.schema.json list the same values."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert keys_of(values) == keys_of_schema(schema) - {".global"}


def test_crd_stays(render: Render):
    """Uninstalling the release does not delete the jobs of the users."""
    (crd,) = [o for o in render() if o["kind"] == "CustomResourceDefinition"]
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert crd["spec"] == build_crd()["spec"]


def test_crd_is_optional(render: Render):
    """Who installs the definition otherwise can leave it out."""
    assert "CustomResourceDefinition" not in {o["kind"] for o in render("crds.install=false")}


def test_replicas_elect_one(render: Render):
    """All have the same Lease, also where there is one: a rollout starts the new operator before the old one has ended."""
    objects = render("replicas=2")
    assert deployment(objects)["spec"]["replicas"] == 2
    assert "--lease=system/scalejob-operator" in operator(objects)["args"]
    assert "--lease=system/scalejob-operator" in operator(render())["args"]


def test_digest_wins(render: Render):
    """Both images can be pinned by digest."""
    digest = "sha256:" + "0" * 64
    container = operator(render(f"image.digest={digest}", "image.tag=x", f"trainer.image.digest={digest}"))
    assert container["image"] == f"scalejob/operator@{digest}"
    assert f"--trainer-image=scalejob/trainer@{digest}" in container["args"]


def test_probes(render: Render):
    """A Pod is started again if /healthz says so, and is ready when /readyz says that its caches are: pages that the operator has."""
    container = operator(render())
    probes = {name: container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")}
    assert probes == {
        "livenessProbe": {"path": "/healthz", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }
    assert {"name": "http", "containerPort": Options(trainer_image="").metrics_port} in container["ports"]


def test_arguments(render: Render):
    """The values reach the operator; the defaults are its own."""
    default = Options(trainer_image="")
    wanted = [f"--log-level={default.log_level}", f"--qps={default.qps:g}", f"--burst={default.burst}"]
    assert operator(render())["args"][2:] == wanted
    arguments = operator(render("log.level=debug", "api.qps=50", "api.burst=2000000"))["args"]
    assert arguments[2:] == ["--log-level=debug", "--qps=50", "--burst=2000000"]


def test_watched_namespaces(render: Render):
    """The operator is told which namespaces are its own."""
    arguments = operator(render("watch.namespaces={team-a,team-b}"))["args"]
    assert [a for a in arguments if a.startswith("--namespace")] == ["--namespace=team-a", "--namespace=team-b"]


def test_release_name_in_names(render: Render):
    """Two releases in one cluster do not share a name."""
    names = {o["metadata"]["name"] for o in render("crds.install=false", release="second")}
    assert all(name.startswith("second-scalejob") for name in names)
