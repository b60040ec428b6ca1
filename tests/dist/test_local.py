"""`scalejob run` with real processes: restarts, ends, overrides, and that nothing is left behind."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scalejob.local.processes import find
from tests.local_jobs import SCALEJOB, command_job, last_line, run, start, write_jobs

FAILS_ONCE = """
import os
if os.environ["SCALEJOB_ATTEMPT"] == "0" and os.environ["SCALEJOB_INDEX"] == "1":
    raise ValueError("boom")
"""
SLEEPS = "import time; print('here', flush=True); time.sleep(60)"
IS_DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPS
# Worker 1 succeeds once the child that worker 0 left behind is gone.
LEAVES_A_CHILD = """
import os, pathlib, subprocess, time
from scalejob.local.processes import find
has_child = pathlib.Path("has_child")
if os.environ["SCALEJOB_INDEX"] == "0":
    subprocess.Popen(["sleep", "60"], start_new_session=True)
    has_child.touch()
    raise SystemExit
marks = {"SCALEJOB_UID": os.environ["SCALEJOB_UID"], "SCALEJOB_INDEX": "0"}
while not has_child.exists() or find(marks):
    time.sleep(0.01)
"""


def until(fact: Callable[[], object], seconds: float = 20) -> None:
    """Waits for a fact; fails if it does not come true."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def workers_of(name: str) -> list[int]:
    return find({"SCALEJOB_NAME": name})


def until_both_are_here(process: subprocess.Popen[str]) -> None:
    """Both workers of SLEEPS or IS_DEAF have spoken."""
    assert process.stderr is not None
    assert {process.stderr.readline(), process.stderr.readline()} == {"[0] here\n", "[1] here\n"}


def test_a_failed_attempt_is_followed_by_one_that_succeeds(tmp_path: Path) -> None:
    """The reason of the restart is told, and the run ends well."""
    done = run("run", write_jobs(tmp_path, command_job("again", FAILS_ONCE)), cwd=tmp_path)
    assert done.returncode == 0
    assert "again: Restarting: attempt 1 after UserError of worker 1: ValueError: boom" in done.stderr
    assert last_line(done.stderr) == "again: 2 workers succeeded"


def test_the_message_of_the_failed_worker_comes_last(tmp_path: Path) -> None:
    """Whatever the other workers print: the last line says which one failed, and how."""
    job = command_job("boom", FAILS_ONCE, restarts={"failures": 0})
    done = run("run", write_jobs(tmp_path, job), cwd=tmp_path)
    assert done.returncode == 1
    assert last_line(done.stderr).endswith("worker 1 failed (exit code 1): ValueError: boom")


def test_exit_code_2_is_not_tried_again(tmp_path: Path) -> None:
    """The user's fault: one attempt, exit code 2."""
    done = run("run", write_jobs(tmp_path, command_job("fault", "raise SystemExit(2)")), cwd=tmp_path)
    assert done.returncode == 2
    assert "Restarting" not in done.stderr


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Nothing to retry either."""
    done = run("run", write_jobs(tmp_path, command_job("none", "", argv=("no-such-program",))), cwd=tmp_path)
    assert done.returncode == 2
    assert last_line(done.stderr) == "none: cannot start no-such-program: No such file or directory"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_workers(tmp_path: Path, number: signal.Signals) -> None:
    """At once, and nothing is left."""
    process = start("run", write_jobs(tmp_path, command_job("stopped", SLEEPS)), cwd=tmp_path)
    until(lambda: len(workers_of("stopped")) == 2)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=3)
    assert process.returncode == 128 + number
    assert last_line(stderr) == f"stopped: ended by {number.name}; no worker is left"
    assert workers_of("stopped") == []


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    """Workers that ignore SIGTERM have a grace time, unless somebody insists."""
    job = command_job("deaf", IS_DEAF, pod={"terminationGracePeriodSeconds": 60})
    process = start("run", write_jobs(tmp_path, job), cwd=tmp_path)
    until_both_are_here(process)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=3)
    assert process.returncode == 130
    assert workers_of("deaf") == []


def test_ctrl_c_on_a_terminal_reaches_the_workers_once(tmp_path: Path) -> None:
    """The key, not the signal: on a terminal there are bars, and the workers are not in its process group."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [SCALEJOB, "run", write_jobs(tmp_path, command_job("typed", SLEEPS))],
        cwd=tmp_path,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(inside)
    until(lambda: len(workers_of("typed")) == 2)
    os.write(terminal, b"\x03")
    shown = read_all(terminal)
    assert process.wait(timeout=3) == 130
    assert "ended by SIGINT" in shown
    assert workers_of("typed") == []


def read_all(terminal: int) -> str:
    """What was shown until the program closed its side."""
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:
        pass  # Linux says so that the other side is closed
    os.close(terminal)
    return shown.decode()


def test_nothing_outlives_a_killed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL cannot be handled; the workers, even deaf ones, end all the same, and no temporary file is left."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    process = start("run", write_jobs(tmp_path, command_job("orphan", IS_DEAF)), cwd=tmp_path)
    until_both_are_here(process)
    assert list(temporary.iterdir()) != []
    process.kill()
    process.communicate(timeout=5)
    until(lambda: not workers_of("orphan") and list(temporary.iterdir()) == [], seconds=5)


def test_children_in_sessions_of_their_own_end_with_their_worker(tmp_path: Path) -> None:
    """As a Pod ends with all of its processes."""
    done = run("run", write_jobs(tmp_path, command_job("parent", LEAVES_A_CHILD)), cwd=tmp_path, timeout=20)
    assert done.returncode == 0
    assert workers_of("parent") == []


def test_a_reader_that_goes_away_ends_the_run(tmp_path: Path) -> None:
    """`scalejob run ... 2>&1 | head -1` leaves no worker."""
    program = "import time\nwhile True: print('x' * 100, flush=True); time.sleep(0.01)"
    file = write_jobs(tmp_path, command_job("piped", program))
    line = f"{SCALEJOB} run {file} 2>&1 | head -1"
    subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True, capture_output=True, timeout=20)
    assert workers_of("piped") == []


def test_a_job_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """--timeout is the deadline of the job."""
    done = run("run", write_jobs(tmp_path, command_job("slow", SLEEPS)), "--timeout", "1", cwd=tmp_path, timeout=20)
    assert done.returncode == 1
    assert "DeadlineExceeded" in last_line(done.stderr)
    assert workers_of("slow") == []


def test_workers_and_fields_can_be_overridden(tmp_path: Path) -> None:
    """--workers and --set reach the processes."""
    program = "import os; print(os.environ['WORLD_SIZE'], os.environ['COLOUR'])"
    file = write_jobs(tmp_path, command_job("many", program))
    done = run("run", file, "--workers", "3", "--set", "spec.pod.env=[{name: COLOUR, value: red}]", cwd=tmp_path)
    assert sorted(done.stderr.splitlines()) == [*(f"[{i}] 3 red" for i in range(3)), "many: 3 workers succeeded"]


def test_jobs_of_a_file_run_in_order_until_one_fails(tmp_path: Path) -> None:
    """What stands after a failed job is not started; each job that ended is one line of JSON."""
    jobs = [command_job("first", ""), command_job("second", "raise SystemExit(93)"), command_job("third", "")]
    done = run("run", write_jobs(tmp_path, *jobs), "--output", "json", cwd=tmp_path)
    assert done.returncode == 1
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(job["name"], job["status"]["phase"]) for job in found] == [("first", "Succeeded"), ("second", "Failed")]


def children(pid: int) -> list[int]:
    """Of the first thread of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ranks_of(pid: int) -> list[int]:
    """The forks of the server that a run has started."""
    return [
        rank
        for child in children(pid)
        if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes()
        for rank in children(child)
    ]


def test_a_worker_that_is_told_to_end_saves_the_state_and_the_next_attempt_goes_on(tmp_path: Path) -> None:
    """SIGTERM to one, as from a node that is drained: a disruption and no failure, and no step is taken twice."""
    job = command_job("preempted", "")
    job["spec"] |= {
        "workload": {"kmeans": {"clusters": 12, "restarts": 120, "init": "random"}},
        "data": {"synthetic": {"blobs": {"rows": 40_000, "features": 8, "centers": 20}}},
        "output": {"uri": str(tmp_path / "model")},
        "checkpoint": {"everySeconds": 1},
    }
    with start("run", write_jobs(tmp_path, job), "--output", "json", cwd=tmp_path) as process:
        until((tmp_path / "model" / "checkpoint").exists, seconds=60)
        os.kill(ranks_of(process.pid)[1], signal.SIGTERM)
        out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    status = json.loads(out)["status"]
    assert status["restarts"] == {"disruptions": 1, "failures": 0, "total": 1, "outOfMemory": 0, "recent": 1}
    assert "state saved after SIGTERM at step" in status["lastFailure"]["message"]
    assert "the fit goes on after step" in err
    assert not (tmp_path / "model" / "checkpoint").exists()
