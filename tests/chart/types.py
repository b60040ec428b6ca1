"""Names of the fixtures' types."""

import subprocess
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]
Helm = Callable[..., subprocess.CompletedProcess[str]]  # arguments -> the finished process
Render = Callable[..., list[Object]]  # `--set` options -> objects
