"""What an API server does with an object of our CRD, as far as rules go: fill in defaults, then judge by CEL."""

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

from cel_expr_python import cel

from scalejob.api.crd import Schema

_ENV = cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN})


@cache
def _compiled(rule: str) -> cel.Expression:
    return _ENV.compile(rule)


def with_defaults(schema: Schema, value: Any) -> Any:
    """`value` with the schema's defaults filled in, from the outside in."""
    if isinstance(value, list):
        return [with_defaults(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return value
    result = dict(value)
    for name, child in schema.get("properties", {}).items():
        if name not in result and "default" in child:
            result[name] = copy.deepcopy(child["default"])
        if name in result:
            result[name] = with_defaults(child, result[name])
    return result


def violations(schema: Schema, new: Any, old: Any = None) -> Iterator[str]:
    """The messages of all rules that `new` breaks; rules with oldSelf only where there is an old value."""
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in rule["rule"] and old is None:
            continue
        is_kept = _compiled(rule["rule"]).eval(data={"self": new, "oldSelf": old}).value()
        assert isinstance(is_kept, bool), f"{rule['rule']}: {is_kept}"
        if not is_kept:
            yield rule["message"]
    if isinstance(new, dict):
        for name, child in schema.get("properties", {}).items():
            if name in new:
                yield from violations(child, new[name], old.get(name) if isinstance(old, dict) else None)
    if isinstance(new, list):
        for item in new:
            yield from violations(schema.get("items", {}), item)
