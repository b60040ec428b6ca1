"""The JSON of figures: one shape for all benchmarks that have some."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.figure import Line
from tests.bench.machine import facts


def write(path: Path, sections: Mapping[str, Sequence[Line]], *, is_part: bool = False) -> None:
    """With what they were measured on. Beside a part of the sections those stay that the file has already."""
    kept = json.loads(path.read_text())["sections"] if is_part and path.exists() else {}
    lines = kept | {name: [line.as_json() for line in lines] for name, lines in sections.items()}
    path.write_text(json.dumps({"machine": facts(), "sections": lines}, indent=1) + "\n")
