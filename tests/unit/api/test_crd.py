"""The generated CustomResourceDefinition: small, described, and of one mind with the checks of the CLI."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scalejob.api import v1alpha1
from scalejob.api.check import InvalidFile, parse
from scalejob.api.crd import Schema, build_crd, open_api_schema
from scalejob.api.generate import outputs
from scalejob.api.v1alpha1 import ScaleJob
from scalejob.api.v1alpha1.spec import IMMUTABLE_WHILE_RUNNING
from tests.unit.api.cases import ACCEPTED, REFUSED, VALID, Case
from tests.unit.api.crd_rules import violations, with_defaults

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = open_api_schema()


def fields(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every field below `schema`, with its dotted path."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from fields(child, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")


def updated(changes: dict[str, Any], old_changes: dict[str, Any] | None = None) -> list[str]:
    """What the API server answers when VALID's spec, with `old_changes`, is changed by `changes`."""
    old = copy.deepcopy(VALID)
    old["spec"] |= old_changes or {}
    new = copy.deepcopy(old)
    new["spec"] |= changes
    return list(violations(SCHEMA, with_defaults(SCHEMA, new), with_defaults(SCHEMA, old)))


def test_it_fits_the_annotation_of_kubectl_apply() -> None:
    """Client-side apply stores the whole object in an annotation of at most 256 KiB."""
    assert len(json.dumps(build_crd())) < 200_000


def test_every_field_is_described() -> None:
    """`kubectl explain` has something to say about each field."""
    assert [path for path, schema in fields(SCHEMA) if not schema.get("description") and path != ".metadata"] == []


def test_status_has_no_defaults() -> None:
    """A default in the status would claim something that nobody has seen."""
    assert [path for path, schema in fields(SCHEMA["properties"]["status"]) if "default" in schema] == []


def test_defaults_keep_the_rules() -> None:
    """The API server judges each default as it stands, before the defaults of its fields are filled in, and refuses the CRD."""
    with_default = [schema for _, schema in fields(SCHEMA) if "default" in schema]
    assert [list(violations(schema, schema["default"])) for schema in with_default] == [[]] * len(with_default)


def test_what_is_generated_is_committed() -> None:
    """CRD, chart copy and reference are those of the models; `make generate` writes them."""
    assert [name for name, text in outputs().items() if (ROOT / name).read_text(encoding="utf-8") != text] == []


@pytest.mark.parametrize("case", [*REFUSED, *ACCEPTED], ids=lambda case: case.name)
def test_cel_and_python_agree(case: Case) -> None:
    """A rule between fields is broken in CEL exactly when the CLI says so with the same words."""
    document = case.document()
    try:
        parse(yaml.safe_dump(document))
        said = []
    except InvalidFile as error:
        said = [problem.message for problem in error.problems]
    rules = {rule.message for model in models() for rule in model.rules}
    if well_formed(said, rules):
        assert sorted(set(said)) == sorted(set(violations(SCHEMA, with_defaults(SCHEMA, document))))


def test_every_rule_is_broken_by_a_case() -> None:
    """None that only one side knows. A rule without a check compares with the stored object."""
    broken = {message for case in REFUSED for message in violations(SCHEMA, with_defaults(SCHEMA, case.document()))}
    assert {rule.message for model in models() for rule in model.rules if rule.check} - broken == set()


def models() -> Iterator[type]:
    """Every model of the API."""
    yield from (value for value in vars(v1alpha1).values() if isinstance(value, type) and hasattr(value, "rules"))


def well_formed(said: list[str], rules: set[str]) -> bool:
    """Whether only rules were broken: of a document with a wrong field the API server judges no rules."""
    return all(message in rules for message in said)


@pytest.mark.parametrize("field", IMMUTABLE_WHILE_RUNNING)
def test_structural_fields_change_only_while_suspended(field: str) -> None:
    """A running job keeps its data, Pods and seed; one may be edited that is suspended, or becomes or ceases to be so by this write."""
    other = {
        "data": {"synthetic": {"blobs": {"rows": 9, "features": 4}}},
        "prepare": {"scale": "standard"},
        "validation": {"fraction": 0.5},
        "output": {"uri": "/models/other"},
        "checkpoint": {"everySeconds": 5},
        "seed": 7,
        "processesPerWorker": 2,
        "gpus": {"perWorker": 2},
        "rendezvous": {"port": 30000},
        "pod": {"image": "other"},
    }[field]
    want = f"{field} can change only while the job is suspended: set suspend: true first"
    assert updated({field: other}) == [want]
    assert updated({field: other, "suspend": True}) == []
    assert updated({field: other}, {"suspend": True}) == []
    assert updated({field: other, "suspend": False}, {"suspend": True}) == []


def test_workers_and_life_cycle_may_change_at_any_time() -> None:
    """`kubectl scale`, suspend and the TTL work on a running job."""
    assert updated({"workers": 3, "suspend": True, "ttlSecondsAfterFinished": 5, "keepPods": "All"}) == []


@pytest.mark.parametrize("suspend", [False, True])
def test_workload_and_manager_never_change(suspend: bool) -> None:
    """Another workload is another job."""
    said = updated({"workload": {"svm": {}}, "managedBy": "example.com/other"}, {"suspend": suspend})
    assert said == [
        "workload cannot be changed: create a new job",
        "managedBy cannot be changed: create a new job",
    ]


def test_a_stored_object_with_unknown_fields_is_read() -> None:
    """An operator reads what a newer version accepted and stored, and writes back nothing of it."""
    document = copy.deepcopy(VALID)
    document["spec"]["fromTheFuture"] = {"a": 1}
    document["spec"]["workload"]["kmeans"]["warmStart"] = True
    document["status"] = {"phase": "Running", "fromTheFuture": 1}
    job = ScaleJob.model_validate(document)
    assert (job.spec.workload.name, job.status and job.status.phase) == ("kmeans", "Running")
