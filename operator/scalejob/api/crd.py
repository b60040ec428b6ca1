"""The CustomResourceDefinition, computed from the pydantic models.

A structural schema (KEP-1979) is stricter than JSON schema: no `$ref`, one `type` everywhere, `nullable` instead of a
union with null. `_structural` rewrites what pydantic writes; anything it does not know is an error, not a guess.
"""

from typing import Any

from scalejob.contract import API_VERSION, GROUP, KIND, MANAGED_BY, PLURAL, VERSION

from .v1alpha1 import ScaleJob

Schema = dict[str, Any]

SHORT_NAMES = ("sj",)
CATEGORIES = ("all", "scalejob")

# name, type, JSON path, whether only `-o wide` shows it
COLUMNS = (
    ("Workload", "string", ".status.workload", False),
    ("Phase", "string", ".status.phase", False),
    ("Reason", "string", ".status.reason", False),
    ("Workers", "string", ".status.workers.summary", False),
    ("Restarts", "integer", ".status.restarts.total", False),
    ("Progress", "string", ".status.progress.summary", False),
    ("Age", "date", ".metadata.creationTimestamp", False),
    ("GPUs", "integer", ".spec.gpus.perWorker", True),
    ("Duration", "string", ".status.duration", True),
    ("Message", "string", ".status.message", True),
)

# JSON-schema words that mean the same in a structural schema.
_KEPT = (
    "type",
    "description",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
    "x-kubernetes-validations",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)
_HANDLED = (
    *_KEPT,
    "$ref",
    "$defs",
    "title",
    "default",
    "properties",
    "items",
    "additionalProperties",
    "anyOf",
    "const",
    "exclusiveMinimum",
    "exclusiveMaximum",
)


def build_crd() -> Schema:
    """The CRD as it is applied. Deterministic: the same models give the same value."""
    columns = [
        {"name": name, "type": kind, "jsonPath": path, **({"priority": 1} if is_wide else {})}
        for name, kind, path, is_wide in COLUMNS
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{PLURAL}.{GROUP}",
            "labels": {
                "app.kubernetes.io/name": "scalejob",
                "app.kubernetes.io/managed-by": MANAGED_BY.replace("/", "-"),
            },
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": list(SHORT_NAMES),
                "categories": list(CATEGORIES),
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": open_api_schema()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.workers",
                            "statusReplicasPath": ".status.workers.desired",
                            "labelSelectorPath": ".status.workers.selector",
                        },
                    },
                    "additionalPrinterColumns": columns,
                }
            ],
        },
    }


def open_api_schema() -> Schema:
    """The structural schema of `ScaleJob`, defaults included in `spec` and absent from `status`."""
    source = ScaleJob.model_json_schema(by_alias=True)
    definitions = source["$defs"]
    schema = _structural(source, definitions)
    properties = schema["properties"]
    properties["metadata"] = {"type": "object"}  # the API server has its own schema for it and allows no other
    properties["status"] = _without_defaults(properties["status"])
    properties["apiVersion"] = {"type": "string", "description": f"Always {API_VERSION}."}
    properties["kind"] = {"type": "string", "description": f"Always {KIND}."}
    schema["required"] = ["spec"]
    return schema


def _structural(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """`node` with references put in place and pydantic's idioms translated."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    if "anyOf" in node:
        return _union(node, definitions)
    unknown = sorted(set(node) - set(_HANDLED))
    assert not unknown, f"no rule how to write {unknown} in a structural schema: {node}"
    result = {key: node[key] for key in _KEPT if key in node}
    if "const" in node:
        result |= {"type": "string", "enum": [node["const"]]}
    _translate_bounds(node, result)
    if "properties" in node:
        result["properties"] = {name: _structural(child, definitions) for name, child in node["properties"].items()}
    if "items" in node:
        result["items"] = _structural(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if node.get("default") is not None:
        # A nested model is filled in by the defaults of its own fields.
        result["default"] = {} if result.get("type") == "object" else node["default"]
    return result


def _translate_bounds(node: Schema, result: Schema) -> None:
    """Numbers get a width; exclusive bounds are flags in OpenAPI 3.0."""
    if node.get("type") == "integer":
        result["format"] = "int64"
    if node.get("type") == "number":
        result["format"] = "double"
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in node:
            result[bound] = node[exclusive]
            result[exclusive] = True


def _union(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Optional values lose their null; an integer or a word becomes int-or-string with a rule for each side."""
    around = {key: value for key, value in node.items() if key != "anyOf"}
    members = [m for m in node["anyOf"] if m.get("type") != "null"]
    if len(members) == 1:
        return _structural({**members[0], **around}, definitions)
    sides = {side["type"]: side for side in (_structural(member, definitions) for member in members)}
    assert set(sides) == {"integer", "string"}, f"only integer or string: {node}"
    result = {key: value for key, value in around.items() if key in ("description", "default") and value is not None}
    return result | {"x-kubernetes-int-or-string": True} | _either(sides["integer"], sides["string"])


def _either(integer: Schema, string: Schema) -> Schema:
    """The checks of an int-or-string value. A pattern looks at strings only, a bound at integers only."""
    if "pattern" in string:
        return {key: string[key] for key in ("pattern", "maxLength") if key in string} | {"minimum": integer["minimum"]}
    word, low, high = string["enum"][0], integer["minimum"], integer["maximum"]
    rule = f"type(self) == int ? (self >= {low} && self <= {high}) : self == '{word}'"
    message = f"must be {word}, or a whole number from {low} to {high}"
    return {"x-kubernetes-validations": [{"rule": rule, "message": message}]}


def _without_defaults(node: Any) -> Any:
    """Status holds what was seen; a default would be seen by nobody."""
    if isinstance(node, dict):
        return {
            key: _without_defaults(value)
            for key, value in node.items()
            if key != "default" or not isinstance(node.get("type"), str)
        }
    return [_without_defaults(item) for item in node] if isinstance(node, list) else node
