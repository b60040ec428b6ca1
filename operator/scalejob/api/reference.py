"""docs/reference.md, computed from the CRD: one table for each object of the schema."""

from collections.abc import Iterator
from typing import Any

from scalejob.contract import API_VERSION, KIND

from .crd import open_api_schema

HEADER = f"""# Reference: `{KIND}`

`apiVersion: {API_VERSION}`, `kind: {KIND}`, short name `sj`. Generated from the API models by `make generate`: do not edit.
On a cluster, `kubectl explain scalejob.spec` says the same.

A field without a default is optional unless it is marked *required*.
"""


def build_reference() -> str:
    """The whole page as Markdown."""
    schema = open_api_schema()
    sections = [HEADER]
    for part in ("spec", "status"):
        sections += [_section(path, node) for path, node in _objects(part, schema["properties"][part])]
    return "\n".join(sections)


def _objects(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with fields of its own below `node`, depth first, in the order of the models."""
    if "properties" in node:
        yield path, node
        for name, child in node["properties"].items():
            yield from _objects(f"{path}.{name}", child)
    if "items" in node:
        yield from _objects(f"{path}[]", node["items"])


def _section(path: str, node: dict[str, Any]) -> str:
    required = set(node.get("required", ()))
    rows = [_row(name, child, name in required) for name, child in node["properties"].items()]
    rules = [f"* {_escape(rule['message'])}" for rule in node.get("x-kubernetes-validations", ())]
    lines = [
        f"## `{path}`",
        "",
        _escape(node.get("description", "")),
        "",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
        *rows,
    ]
    return "\n".join([*lines, "", *(["Rules:", "", *rules, ""] if rules else [])])


def _row(name: str, node: dict[str, Any], is_required: bool) -> str:
    default = (
        "*required*"
        if is_required
        else f"`{_literal(node['default'])}`"
        if node.get("default") not in (None, {})
        else ""
    )
    return f"| `{name}` | {_type(node)} | {default} | {_escape(node.get('description', ''))} |"


def _type(node: dict[str, Any]) -> str:
    """The type for people, with its bounds."""
    if "enum" in node:
        return " or ".join(f"`{value}`" for value in node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if node.get("type") == "array":
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"map of {_type(node['additionalProperties'])}"
    return f"{node.get('type', 'object')}{_bounds(node)}"


def _bounds(node: dict[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    above = ">" if node.get("exclusiveMinimum") else "≥"
    below = "<" if node.get("exclusiveMaximum") else "≤"
    parts = [f"{above} {low:g}" if low is not None else "", f"{below} {high}" if high is not None else ""]
    return " " + ", ".join(p for p in parts if p) if any(parts) else ""


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _escape(text: str) -> str:
    """A line break ends a table row and a bar a cell."""
    return " ".join(text.split()).replace("|", "\\|")
