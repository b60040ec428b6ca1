"""The two images: small, without what the other one needs, and at home under the restricted standard."""

import json
import os
import shutil
import subprocess

import pytest

from tests.e2e.conftest import IMAGES

OPERATOR, TRAINER = IMAGES
MEGABYTE = 1_000_000
MOST_OF_OPERATOR = 120 * MEGABYTE


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    """A Docker engine that has both images."""
    if not shutil.which("docker") or not os.environ.get("DOCKER_HOST"):
        pytest.skip("no $DOCKER_HOST: there is no engine whose images could be looked at")
    for image in IMAGES:
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode:
            pytest.skip(f"the Docker engine has no image {image}")


def run(image: str, script: str) -> str:
    """Output of a Python program in the image, as a Pod would run it: no root, and nothing to write but /tmp."""
    options = ["--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"]
    return docker("run", *options, "--security-opt=no-new-privileges", "--entrypoint=python", image, "-c", script)


def layers(image: str) -> list[tuple[int, str]]:
    """(bytes, the instruction) of the layers, the last one first."""
    lines = docker("history", "--no-trunc", "--human=false", "--format={{.Size}} {{.CreatedBy}}", image).splitlines()
    return [(int(size), step) for size, _, step in (line.partition(" ") for line in lines)]


def own_layers(image: str) -> list[tuple[int, str]]:
    """Those above the base image, which begin with the user."""
    steps = layers(image)
    (first,) = [i for i, (_, step) in enumerate(steps) if "useradd" in step]
    return steps[: first + 1]


def test_operator_is_small():
    """At most 120 MB on top of the base image."""
    assert sum(size for size, _ in own_layers(OPERATOR)) <= MOST_OF_OPERATOR


def test_torch_has_a_layer_of_its_own():
    """All but a tenth of what the trainer adds is one layer, and what our own code adds is small."""
    steps = own_layers(TRAINER)
    torch = max(steps)
    assert "torch.lock" in torch[1]
    assert torch[0] > 0.9 * sum(size for size, _ in steps)
    above_libraries = [size for size, _ in steps[: next(i for i, s in enumerate(steps) if "trainer.lock" in s[1])]]
    assert sum(above_libraries) < 5 * MEGABYTE


@pytest.mark.parametrize(
    ("image", "present", "absent"),
    [
        (OPERATOR, "kopf", ["torch", "numpy", "sklearn"]),
        (TRAINER, "torch", ["kopf", "kubernetes", "prometheus_client"]),
    ],
    ids=["operator", "trainer"],
)
def test_libraries(image: str, present: str, absent: list[str]):
    """Each image imports its own libraries and has not those of the other."""
    script = f"import {present}, importlib.util as u; print([m for m in {absent} if u.find_spec(m)])"
    assert run(image, script).strip() == "[]"


@pytest.mark.parametrize("image", IMAGES)
def test_no_build_tools(image: str):
    """No compiler, and no installer in the environment that runs."""
    script = "import shutil, importlib.util as u; print([t for t in ('cc', 'gcc', 'make', 'ld') if shutil.which(t)], u.find_spec('pip'))"
    assert run(image, script).strip() == "[] None"


@pytest.mark.parametrize("image", IMAGES)
def test_not_root(image: str):
    """The user is a number, so that Kubernetes can tell that it is not root, and can write nothing but /tmp."""
    (inspected,) = json.loads(docker("image", "inspect", image))
    assert inspected["Config"]["User"] == "10001:10001"
    script = "import os; print(os.getuid(), os.access('/opt/scalejob', os.W_OK), os.access('/tmp', os.W_OK))"
    assert run(image, script).strip() == "10001 False True"


@pytest.mark.parametrize("image", IMAGES)
def test_labels(image: str):
    """OCI labels say what the image is."""
    (inspected,) = json.loads(docker("image", "inspect", image))
    labels = inspected["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == image.partition(":")[2]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.title"]
