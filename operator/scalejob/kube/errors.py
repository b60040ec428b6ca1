"""What can go wrong when talking to the API server, classed by what the caller should do.

    ApiError                    any failed request
    ├── NotLeading              never sent: this replica may not write                               -> end
    ├── Unreachable             no answer: connection refused or reset, time-out, broken stream      -> try again
    ├── TooManyRequests         429; `retry_after` seconds                                           -> try again later
    ├── ServerError             5xx, or an answer that is none                                       -> try again
    ├── Gone                    410: the resourceVersion or continue token has expired               -> list again
    ├── NotFound                404                                                                  -> forget the object
    ├── Conflict                409: the object has changed, or a precondition does not hold         -> read it again
    │   └── AlreadyExists       409 on create                                                        -> adopt it, or name the owner
    ├── Invalid                 400, 413 or 422: the object itself is wrong                          -> the user's to correct
    ├── Unauthorized            401, after the token was read anew                                   -> the installer's to correct
    └── Forbidden               403 from authorisation: RBAC                                         -> the installer's to correct
        ├── QuotaExceeded       403 from a ResourceQuota                                             -> wait
        └── PolicyDenied        refused by another admission plug-in or webhook, or one that is away -> wait

`error_of` is the one place where an HTTP answer becomes one of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson


class ApiError(Exception):
    """Any failed request. `message` is the API server's own text."""

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class NotLeading(ApiError):
    """Another replica leads, or may soon."""


class Unreachable(ApiError):
    """No answer."""


class TooManyRequests(ApiError):
    """The API server asks us to wait."""

    def __init__(self, message: str, *, code: int = 429, retry_after: float = 1.0) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class ServerError(ApiError):
    """The API server failed."""


class Gone(ApiError):
    """The resourceVersion or the continue token has expired."""


class NotFound(ApiError):
    """The object, its namespace or its kind does not exist."""


class Conflict(ApiError):
    """The object has changed since it was read, or a precondition does not hold."""


class AlreadyExists(Conflict):
    """An object of this name exists."""


class Invalid(ApiError):
    """The object itself is wrong."""


class Unauthorized(ApiError):
    """The credentials are not accepted."""


class Forbidden(ApiError):
    """The operator lacks a right."""


class QuotaExceeded(Forbidden):
    """A ResourceQuota refuses the object."""


class PolicyDenied(Forbidden):
    """An admission plug-in or webhook refuses the object, or a webhook that has to be asked does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """The parts of a `Status` object that tell errors apart."""

    code: int
    reason: str
    message: str
    retry_after: float


# A webhook or a ValidatingAdmissionPolicy may choose any code; that of a policy is 422 if it chooses none.
_DENIAL = re.compile(
    r'^admission webhook ".*" denied the request|\bfailed calling webhook "'
    r"|\bValidatingAdmissionPolicy '.*' with binding '.*' denied request"
)
# What the RBAC authoriser says, as opposed to admission: `User "x" cannot create resource "pods" in API group ...`.
_RBAC_DENIAL = re.compile(r'\bUser ".*" cannot \w+ ')

_BY_CODE: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: Invalid,
    422: Invalid,
}


def error_of(code: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """The error for an HTTP answer that is no success."""
    return _error(_answer(code, _status_object(body), headers.get("Retry-After")))


def error_of_status(status: Mapping[str, Any]) -> ApiError:
    """The error for a `Status` object inside a watch stream."""
    return _error(_answer(int(status.get("code", 500)), status, None))


def _status_object(body: bytes) -> Mapping[str, Any]:
    """The body as a `Status`; proxies and load balancers answer with plain text."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"message": body[:500].decode(errors="replace").strip()}


def _answer(code: int, status: Mapping[str, Any], retry_after: str | None) -> _Answer:
    details = status.get("details") or {}
    seconds = retry_after if retry_after and retry_after.isdigit() else details.get("retryAfterSeconds", 1)
    return _Answer(
        code=code,
        reason=status.get("reason", ""),
        message=status.get("message") or f"HTTP {code}",
        retry_after=float(seconds),
    )


def _error(answer: _Answer) -> ApiError:
    if answer.code == 429:
        return TooManyRequests(answer.message, retry_after=answer.retry_after)
    return _class_of(answer)(answer.message, code=answer.code)


def _class_of(answer: _Answer) -> type[ApiError]:
    if _DENIAL.search(answer.message):
        return PolicyDenied
    if answer.code == 403:
        return _class_of_forbidden(answer.message)
    if answer.reason == "AlreadyExists":
        return AlreadyExists
    if answer.reason == "Expired":
        return Gone
    return _BY_CODE.get(answer.code, ServerError)


def _class_of_forbidden(message: str) -> type[ApiError]:
    if "exceeded quota" in message or "failed quota" in message:
        return QuotaExceeded
    return Forbidden if _RBAC_DENIAL.search(message) else PolicyDenied
