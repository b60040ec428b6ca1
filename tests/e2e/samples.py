"""The samples, with what their first lines promise."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.e2e.cluster import Object
from tests.tools import ROOT

FOLDER = ROOT / "manifests" / "samples"
PROMISE = re.compile(r"^# (ends|needs): (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """`ends: PHASE [REASON]`, and what must be there before: `needs: flights` or `needs: gpus`."""

    path: Path
    name: str  # of its ScaleJob
    phase: str
    reason: str | None
    needs: str | None

    def is_kept(self, status: Object) -> bool:
        """Whether the status is the promised one."""
        return status.get("phase") == self.phase and self.reason in (None, status.get("reason"))


def read(path: Path) -> Sample:
    text = path.read_text()
    promises = dict(PROMISE.findall(text))
    phase, _, reason = promises["ends"].partition(" ")
    (name,) = [d["metadata"]["name"] for d in yaml.safe_load_all(text) if d["kind"] == "ScaleJob"]
    return Sample(path=path, name=name, phase=phase, reason=reason or None, needs=promises.get("needs"))


SAMPLES = [read(path) for path in sorted(FOLDER.glob("*.yaml")) if PROMISE.search(path.read_text())]
