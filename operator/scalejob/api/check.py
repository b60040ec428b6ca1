"""Reads ScaleJobs from a file and says everything that is wrong with them at once, each with its line.

    YAML text -> documents with lines -> overrides (--set) -> field checks (pydantic) + rules (Rule.check) -> ScaleJob

The API server makes the same checks from the CRD; a test holds both to one table.
"""

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scalejob.contract import KIND

from .v1alpha1 import Model, ScaleJob
from .v1alpha1.pod import QUANTITY_PATTERN
from .v1alpha1.spec import NAME_PATTERN
from .yamltext import Document, Path, YamlError, load_documents, load_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong. `path` is like spec.pod.env[0].name, and empty for the file as a whole; what is wrong with an
    override, or with a file that cannot be read, has no line."""

    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        line = "" if self.line is None else f"line {self.line}: "
        return f"{line}{self.path + ': ' if self.path else ''}{self.message}"


class InvalidFile(ValueError):
    """The file holds no valid ScaleJob; `problems` is everything that was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)

    @classmethod
    def whole(cls, message: str, line: int | None = 1) -> "InvalidFile":
        """One problem of the file as a whole."""
        return cls([Problem(line=line, path="", message=message)])


def parse(text: str, overrides: Sequence[str] = ()) -> list[ScaleJob]:
    """All ScaleJobs of a YAML text; other kinds of documents are passed over.

    `overrides` are `path.to.field=value` with a YAML value; they apply to every ScaleJob of the text.
    Raises InvalidFile with all problems.
    """
    try:
        documents = [document for document in load_documents(text) if _is_ours(document.value)]
        if not documents:
            raise InvalidFile.whole(f"no document of kind {KIND} in this file")
    except YamlError as error:
        raise InvalidFile.whole(str(error), line=error.line) from error
    documents = [_override(document, overrides) for document in documents]
    problems = [problem for document in documents for problem in check(document)]
    if problems:
        raise InvalidFile(problems)
    jobs = [ScaleJob.model_validate(document.value) for document in documents]
    if repeated := [*_repeated_names(documents, jobs)]:
        raise InvalidFile(repeated)
    return jobs


def check(document: Document) -> list[Problem]:
    """Everything that is wrong with one document, in the order of its lines."""
    found: dict[tuple[Path, str], None] = {}
    for path, message in (*_field_problems(document.value), *_rule_problems(ScaleJob, document.value, ())):
        found.setdefault((path, message))
    problems = [Problem(line=document.line_of(path), path=_dotted(path), message=message) for path, message in found]
    return sorted(problems, key=lambda problem: problem.line or 0)


def _is_ours(value: object) -> bool:
    """A document without a kind is taken for ours: it is more useful to say what is missing than to pass it over."""
    return not isinstance(value, dict) or value.get("kind", KIND) == KIND


def _repeated_names(documents: Sequence[Document], jobs: Sequence[ScaleJob]) -> Iterator[Problem]:
    """On a cluster a second job of the same name replaces the first."""
    seen = set()
    for document, job in zip(documents, jobs, strict=True):
        name = (job.metadata.namespace, job.metadata.name)
        if name in seen:
            path = ("metadata", "name")
            message = f"{job.metadata.name} is the name of an earlier job of this file"
            yield Problem(line=document.line_of(path), path=_dotted(path), message=message)
        seen.add(name)


def _override(document: Document, overrides: Sequence[str]) -> Document:
    value = json.loads(json.dumps(document.value, default=str))
    wrong = []
    for override in overrides:
        try:
            _set(value, override)
        except ValueError as error:
            wrong.append(Problem(line=None, path=f"--set {override}", message=str(error)))
    if wrong:
        raise InvalidFile(wrong)
    return Document(value=value, lines=document.lines)


def _set(value: Any, override: str) -> None:
    """ValueError for an override that cannot be followed."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ValueError("must be path.to.field=value")
    *parents, last = path.removeprefix(".").split(".")
    for name in parents:
        value = value.setdefault(name, {}) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        raise ValueError("goes through a value that has no fields")
    value[last] = load_value(text)


def _field_problems(value: object) -> Iterator[tuple[Path, str]]:
    """What pydantic finds in the fields, one entry for each place, in our words."""
    try:
        # From JSON, and strictly: "4" is not a number to the API server either.
        ScaleJob.model_validate_json(
            json.dumps(value, default=str), strict=True, extra="forbid", by_name=False, by_alias=True
        )
    except ValidationError as error:
        by_place: dict[Path, list[ErrorDetails]] = {}
        for detail in error.errors():
            by_place.setdefault(_place(detail, value), []).append(detail)
        for path, details in by_place.items():
            message = " or ".join(dict.fromkeys(_message(detail, path) for detail in details))
            says_it_all = details[0]["type"] in ("missing", "extra_forbidden")
            yield path, message if says_it_all else f"{message}; got {_shown(_at(value, path))}"


def _place(detail: ErrorDetails, value: Any) -> Path:
    """The place in the document: pydantic adds the branch of a union, which is no place."""
    path: list[str | int] = []
    for part in detail["loc"]:
        is_there = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        if is_there:
            value = value[part]
        elif detail["type"] != "missing" or part != detail["loc"][-1]:
            continue
        path.append(part)
    return tuple(path)


def _message(detail: ErrorDetails, path: Path) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "unknown field" + _suggestion(path)
        case "literal_error" | "enum":
            return f"must be {context['expected'].replace(chr(39), '')}"
        case "string_pattern_mismatch":
            return _PATTERNS.get(context["pattern"], f"must match {context['pattern']}")
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "string_too_short" | "too_short":
            return "must not be empty"
        case "too_long":
            return f"must have at most {context['max_length']} entries"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "greater_than":
            return f"must be greater than {context['gt']}"
        case "less_than":
            return f"must be less than {context['lt']}"
        case kind:
            return _TYPES.get(kind, detail["msg"])


_PATTERNS = {
    NAME_PATTERN: "must be a DNS label that begins with a letter: a-z, 0-9 and -",
    QUANTITY_PATTERN: "must be a quantity such as 2, '500m' or 4Gi",
}

_TYPES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
}


def _suggestion(path: Path) -> str:
    """The fields that would be known there, the nearest one first."""
    model = _model_at(path[:-1])
    if model is None:
        return ""
    known = [info.alias or name for name, info in model.model_fields.items()]
    near = difflib.get_close_matches(str(path[-1]), known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}"


def _model_at(path: Path) -> type[Model] | None:
    model: type[Model] | None = ScaleJob
    for part in path:
        if isinstance(part, int) or model is None:
            continue
        model = next((child for name, child in _children(model) if name == part), None)
    return model


def _children(model: type[Model]) -> Iterator[tuple[str, type[Model]]]:
    """Fields that hold a model, or a list of models: the name on the wire, and the class."""
    for name, info in model.model_fields.items():
        child = _find_model(info.annotation)
        if child is not None:
            yield info.alias or name, child


def _find_model(annotation: object) -> type[Model] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((found for found in map(_find_model, get_args(annotation)) if found), None)


def _rule_problems(model: type[Model], value: object, path: Path) -> Iterator[tuple[Path, str]]:
    """Rules between fields, inside out. A rule is judged only where its own object is well formed."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _rule_problems(model, item, (*path, index))
        return
    if not isinstance(value, dict):
        return
    for name, child in _children(model):
        yield from _rule_problems(child, value.get(name), (*path, name))
    try:
        parsed = model.model_validate(value)
    except ValidationError:
        return
    for rule in model.rules:
        if rule.check is not None and not rule.check(parsed):
            yield (*path, *(rule.field_path or "").strip(".").split(".")) if rule.field_path else path, rule.message


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


def _shown(value: object) -> str:
    """As the file has it: null and true, not None and True."""
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def _dotted(path: Path) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
