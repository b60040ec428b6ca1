"""The number of threads comes from what the process may use, not from what the machine has."""

from pathlib import Path

import pytest

from scaletrain.threads import cpu_limit, decide


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "membership", "want"),
    [
        ({"cpu.max": "50000 100000\n"}, "0::/\n", 0.5),
        ({"a/b/cpu.max": "max 100000\n", "a/cpu.max": "20000 100000\n"}, "0::/a/b\n", 0.2),
        ({"cpu.max": "30000 100000\n"}, "0::/host/path/that/is/not/mounted\n", 0.3),
        (
            {"cpu,cpuacct/cpu.cfs_quota_us": "40000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            "4:cpu,cpuacct:/\n",
            0.4,
        ),
        ({"cpu/x/cpu.cfs_quota_us": "10000", "cpu/x/cpu.cfs_period_us": "100000"}, "4:cpu:/x\n1:name=systemd:/\n", 0.1),
    ],
    ids=["v2", "v2, limit of the parent", "v2 in a container", "v1", "v1, own group"],
)
def test_the_quota_is_found(tmp_path: Path, files: dict[str, str], membership: str, want: float) -> None:
    """In either version of control groups, in the own group or above it."""
    write(tmp_path, {**files, "membership": membership})
    assert cpu_limit(tmp_path, tmp_path / "membership") == want


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    """Also where v1 says -1 for no limit."""
    write(tmp_path, {"cpu/cpu.cfs_quota_us": "-1", "membership": "4:cpu:/\n"})
    assert cpu_limit(tmp_path, tmp_path / "membership") >= 1


def test_blas_gets_one_thread_and_the_job_what_was_asked() -> None:
    """OMP_NUM_THREADS says how many blocks run at once; the libraries inside of a block get one thread."""
    environ = {"OMP_NUM_THREADS": "6", "LOCAL_WORLD_SIZE": "2"}
    assert decide(environ) == 6
    assert {environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")} == {"1"}
    assert environ["MKL_CBWR"] == "AUTO"


@pytest.mark.parametrize("text", ["", "0", "many", "-3"])
def test_nonsense_counts_as_not_set(text: str) -> None:
    """A rank has at least one thread, whatever the environment says."""
    assert decide({"OMP_NUM_THREADS": text, "LOCAL_WORLD_SIZE": "1000"}) == 1


def test_libraries_are_told_to_give_the_same_bits():
    """MKL and cuBLAS read it when they are loaded; what the user has set stays."""
    environ = {"MKL_CBWR": "COMPATIBLE"}
    decide(environ)
    assert (environ["MKL_CBWR"], environ["CUBLAS_WORKSPACE_CONFIG"]) == ("COMPATIBLE", ":4096:8")
