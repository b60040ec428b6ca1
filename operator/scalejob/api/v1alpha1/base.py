"""What every model of the API shares: camelCase on the wire, frozen values, and rules that run both as CEL and in Python."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel, to_snake
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule between fields, checked by the API server (`cel`) and by the CLI (`check`); a test holds both to the same table.

    `check` is None for rules that compare with the stored object (`oldSelf`): only the API server can know it.
    """

    cel: str
    message: str
    field_path: str | None = None
    check: Callable[[Any], bool] | None = None

    def to_wire(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        path = {"fieldPath": self.field_path} if self.field_path else {}
        return {"rule": self.cel, "message": self.message, **path}


class Model(BaseModel):
    """Base of all spec and status models.

    Unknown fields are ignored when a stored object is parsed, so that an older operator can read what a newer one accepted;
    the CLI parses with `extra="forbid"`.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", allow_inf_nan=False
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema, with the rules in the form in which a CRD holds them."""
        result = handler(schema)
        if cls.rules:
            handler.resolve_ref_schema(result)["x-kubernetes-validations"] = [rule.to_wire() for rule in cls.rules]
        return result

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: camelCase names, absent instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


# Maps of free strings, and objects whose schema is Kubernetes' own: the API server checks them when the Pod is created.
# The bounds let the API server estimate what a rule costs at most.
StringMap = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]
KubernetesObject = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]


def exactly_one(what: str, *names: str) -> Rule:
    """Exactly one of the optional fields `names` is set. `what` names them in the message."""
    present = " + ".join(f"(has(self.{to_camel(n)}) ? 1 : 0)" for n in names)
    allowed = ", ".join(to_camel(n) for n in names)
    return Rule(
        cel=f"({present}) == 1",
        message=f"set exactly one {what}: {allowed}",
        check=lambda self: sum(getattr(self, n) is not None for n in names) == 1,
    )


# user:password@, and over HTTP also a user alone, which is a token. container@account is how others name places.
USER_INFO = r"(?i)^([a-z0-9+.-]+://[^/]*:[^/]*@|https?://[^/]*@)"
WEB = r"(?i)^https?://"


def no_secret(field: str) -> Rule:
    """The URI in `field` holds no password: objects and their status are read by many."""
    return _unlike(
        field,
        USER_INFO,
        "must not hold a user and a password: give the driver its credentials by pod.envFrom with a Secret",
    )


def not_of_the_web(field: str) -> Rule:
    """The URI in `field`, if there is one, is of a place that can be written."""
    return _unlike(
        field, WEB, "must be a place that can be written: a folder on a volume or in an object store, not a web address"
    )


def _unlike(field: str, pattern: str, message: str) -> Rule:
    """The text in `field`, if there is any, does not begin like `pattern`, which Python and CEL (RE2) read alike."""

    def check(model: Any) -> bool:
        text = getattr(model, to_snake(field))
        return text is None or not re.match(pattern, text)

    return Rule(
        cel=f"!has(self.{field}) || !self.{field}.matches(r'{pattern}')",
        message=f"{field} {message}",
        field_path=f".{field}",
        check=check,
    )
