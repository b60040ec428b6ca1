"""What the CLI says about files."""

import pytest
import yaml

from scalejob.api.check import InvalidFile, parse
from tests.unit.api.cases import ACCEPTED, REFUSED, VALID, Case


def problems(text: str, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(InvalidFile) as caught:
        parse(text, overrides)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_is_wrong_is_refused_by_name(case: Case) -> None:
    """Each refusal names the field or says the rule."""
    assert any(case.want in line for line in problems(yaml.safe_dump(case.document())))


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_what_is_right_is_accepted(case: Case) -> None:
    """A valid file gives its job."""
    assert [job.kind for job in parse(yaml.safe_dump(case.document()))] == ["ScaleJob"]


def test_all_problems_come_at_once_with_their_lines() -> None:
    """Three mistakes, one run."""
    text = "kind: ScaleJob\napiVersion: scalejob.io/v1alpha1\nmetadata: {name: a}\nspec:\n  workers: 0\n  workload: {kmeans: {clusers: 2}}\n"
    assert problems(text) == [
        "line 5: spec.workers: must be at least 1; got 0",
        "line 6: spec.workload.kmeans.clusters: is required",
        "line 6: spec.workload.kmeans.clusers: unknown field; did you mean clusters?",
    ]


def test_a_number_in_scientific_notation_is_a_number() -> None:
    """kubectl reads 1e-4 as a number; so do we, though PyYAML does not."""
    text = yaml.safe_dump(VALID).replace("clusters: 3", "clusters: 3\n      tolerance: 1e-4")
    (job,) = parse(text)
    assert job.spec.workload.kmeans is not None
    assert job.spec.workload.kmeans.tolerance == 1e-4


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan"])
def test_a_number_is_finite(number: str) -> None:
    """YAML knows others, which JSON, and so the API server, does not."""
    wanted = f"must be a finite number; got {number.removeprefix('.').replace('.', '')}"
    assert any(
        wanted in line for line in problems(yaml.safe_dump(VALID), (f"spec.workload={{svm: {{gamma: {number}}}}}",))
    )


def test_a_key_that_stands_twice_is_refused() -> None:
    """YAML would silently take the last one."""
    assert "stands twice" in problems("kind: ScaleJob\nspec: {}\nspec: {}\n")[0]


def test_text_that_is_not_yaml_is_refused_with_its_line() -> None:
    """A broken file gives a line, not a traceback."""
    assert problems("kind: ScaleJob\nspec: [\n")[0].startswith("line 3: not valid YAML")


@pytest.mark.parametrize("text", ["? [a, b]\n: c\n", "kind: ScaleJob\nspec: &a\n  x: *a\n"])
def test_odd_yaml_is_refused(text: str) -> None:
    """Lists as keys and values that contain themselves are YAML, but nothing that can be JSON."""
    assert len(problems(text)) == 1


def test_an_override_that_is_not_yaml_is_refused() -> None:
    """With the text that was given, and no line of the file. A value that begins with * has to be quoted."""
    text = yaml.safe_dump(VALID)
    assert problems(text, ("spec.workers=[", "spec.seed", "apiVersion.x.y=1")) == [
        "--set spec.workers=[: not valid YAML; put text in quotes: 'a.b=\"text\"'",
        "--set spec.seed: must be path.to.field=value",
        "--set apiVersion.x.y=1: goes through a value that has no fields",
    ]


def test_a_value_is_shown_as_the_file_has_it() -> None:
    """null and true, not Python's words for them."""
    assert problems(yaml.safe_dump(VALID | {"spec": None})) == ["line 5: spec: must be a mapping; got null"]
    assert problems(yaml.safe_dump(VALID), ("spec.workers=true",))[0].endswith("must be a whole number; got true")


def test_two_jobs_of_one_name_are_refused() -> None:
    """On a cluster the second would replace the first, whose model would be lost."""
    job = yaml.safe_dump(VALID)
    assert "metadata.name: job is the name of an earlier job of this file" in problems(f"{job}---\n{job}")[0]
    elsewhere = yaml.safe_dump(VALID | {"metadata": {"name": "job", "namespace": "other"}})
    assert len(parse(f"{job}---\n{elsewhere}")) == 2


def test_a_file_that_grows_without_bounds_is_refused() -> None:
    """Nine aliases of nine aliases, and so on."""
    aliases = [f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]" for p, c in zip("abcdefg", "bcdefgh", strict=True)]
    assert "too many values" in problems("\n".join(["a: &a [x,x,x,x,x,x,x,x,x]", *aliases]))[0]


def test_a_file_without_our_kind_is_refused() -> None:
    """A Pod is not a ScaleJob."""
    assert problems("kind: Pod\n") == ["line 1: no document of kind ScaleJob in this file"]


def test_other_documents_are_passed_over() -> None:
    """A file may hold a ConfigMap beside the job."""
    assert len(parse(f"kind: ConfigMap\n---\n{yaml.safe_dump(VALID)}")) == 1


def test_overrides_apply_before_the_check() -> None:
    """--set spec.workers=7 changes the job; a bad value is refused like one in the file."""
    text = yaml.safe_dump(VALID)
    assert parse(text, ["spec.workers=7"])[0].spec.workers == 7
    assert "spec.workers: must be at least 1; got 0" in problems(text, ("spec.workers=0",))[0]
