"""How long a local job of two processes takes until its first step, beside what nobody can avoid: the import of torch.

Both take turns, so that a busy machine hurts both. Seconds are wall time: start-up is waiting.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figure import Figure, spread

WORKERS = 2
JOB = f"""
apiVersion: scalejob.io/v1alpha1
kind: ScaleJob
metadata: {{name: startup}}
spec:
  workload: {{kmeans: {{clusters: 3}}}}
  data: {{synthetic: {{blobs: {{rows: 10000, features: 8}}}}}}
  output: {{uri: model}}
  workers: {WORKERS}
"""


def startup(repeats: int) -> list[Figure]:
    """The section of start-up. Bound: one and a half imports of torch, and a second."""
    ours, imports = [], []
    for _ in range(repeats):
        imports.append(import_seconds())
        ours.append(seconds_to_first_step())
    middle, peer = statistics.median(ours), statistics.median(imports)
    return [
        Figure(
            name=f"first step of {WORKERS} local processes",
            ours=middle,
            peer=peer,
            spread=spread(ours),
            peer_spread=spread(imports),
            note="wall seconds; the peer is `import torch`",
            bound=(1.5 * peer + 1.0) / peer,
        )
    ]


def import_seconds() -> float:
    """Of `python -c "import torch"`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - started


def seconds_to_first_step() -> float:
    """From the start of `scalejob run` until the fit is over: of so few rows it takes a hundredth of a second."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "job.yaml").write_text(JOB)
        started = time.perf_counter()
        command = [Path(sys.executable).with_name("scalejob"), "run", "job.yaml"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as job:
            assert job.stderr
            said = []
            for line in job.stderr:
                said.append(line)
                if ": evaluate" in line:
                    seconds = time.perf_counter() - started
                    break
            else:
                raise SystemExit("no fit was seen:\n" + "".join(said))
            job.communicate()
    return seconds
