"""What the API server's audit log says: who has asked for what, and what was refused. The operator cannot colour it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

# Besides service accounts: whose work the benchmarks compare with the operator's.
AUDITED_USERS = ("kcm",)
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": [
        "RequestReceived"
    ],  # what remains of a request: a line at its end; of a watch, also one at its start
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "Metadata", "users": list(AUDITED_USERS)},
        {"level": "None"},
    ],
}
_WRITES = ("create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One line of the log. `resource` is like pods or scalejobs/status; empty for what is no object, as /apis."""

    time: datetime
    user: str
    verb: str
    group: str
    resource: str
    namespace: str
    uri: str
    is_refused: bool  # by RBAC; refusals of quotas and policies come after that

    @property
    def is_write(self) -> bool:
        return self.verb in _WRITES


def requests(log: Path) -> Iterator[Request]:
    """All that is in the log of a running API server. A line that is still being written is left out."""
    text = log.read_text() if log.exists() else ""
    return (_request(json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n"))


def _request(event: dict[str, Any]) -> Request:
    target = event.get("objectRef") or {}
    parts = filter(None, (target.get("resource"), target.get("subresource")))
    return Request(
        time=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        user=event["user"]["username"],
        verb=event["verb"],
        group=target.get("apiGroup", ""),
        resource="/".join(parts),
        namespace=target.get("namespace", ""),
        uri=event["requestURI"],
        is_refused=(event.get("annotations") or {}).get("authorization.k8s.io/decision") == "forbid",
    )
