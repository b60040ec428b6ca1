"""YAML as the API server reads it, with the line of every value.

Two differences to PyYAML's safe loader, both because kubectl reads a file that way: `1e-4` is a number, and a
date stays a string. A key that stands twice is an error here; elsewhere the first one would be lost silently.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]
MAX_VALUES = 100_000

_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")


class YamlError(ValueError):
    """Text that is not YAML, or has a key twice. `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a file."""

    value: Any
    lines: dict[Path, int] = field(repr=False)

    def line_of(self, path: Path) -> int:
        """The line of the value at `path`, or of the nearest thing around it that exists."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012  - replaces PyYAML's own class attribute
        first: [
            (tag, pattern)
            for tag, pattern in found
            if tag not in ("tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
        ]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def load_value(text: str) -> Any:
    """The right side of `--set`. Raises YamlError."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  - _Loader is a SafeLoader
    except yaml.YAMLError as error:
        raise YamlError(1, "not valid YAML; put text in quotes: 'a.b=\"text\"'") from error


def load_documents(text: str) -> list[Document]:
    """All documents that are not empty. Raises YamlError."""
    try:
        loader = _Loader(text)
        documents = []
        while loader.check_node():
            node = loader.get_node()
            assert node is not None, "check_node said that there is one"
            lines = dict(_bounded(_lines((), node)))
            documents.append(Document(value=loader.construct_document(node), lines=lines))
        return [document for document in documents if document.value is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(mark.line + 1 if mark else 1, f"not valid YAML: {error.problem or error}") from error
    except yaml.YAMLError as error:
        raise YamlError(1, f"not valid YAML: {error}") from error
    except RecursionError as error:
        raise YamlError(1, "a value that contains itself, or is nested too deeply") from error


def _bounded(lines: Iterator[tuple[Path, int]]) -> Iterator[tuple[Path, int]]:
    """A few aliases of aliases make billions of values; the API server takes no file that is so large either."""
    for number, (path, line) in enumerate(lines):
        if number == MAX_VALUES:
            raise YamlError(line, f"too many values in one document, aliases included: at most {MAX_VALUES:,} are read")
        yield path, line


def _lines(path: Path, node: yaml.Node) -> Iterator[tuple[Path, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError(key.start_mark.line + 1, "a key must be a word, not a list or a mapping")
            if key.value in seen:
                raise YamlError(key.start_mark.line + 1, f"the key {key.value!r} stands twice in one mapping")
            seen.add(key.value)
            yield (*path, key.value), key.start_mark.line + 1
            yield from ((p, line) for p, line in _lines((*path, key.value), value) if p != (*path, key.value))
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines((*path, index), value)
