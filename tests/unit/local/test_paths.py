"""Where the paths of a Pod lie on this machine."""

import pytest

from scalejob.local.paths import Mounts

MOUNTS = Mounts(paths=["/models", "/data/", "/data/deep"])

TABLE = {
    "/models/segments": ".scalejob/models/segments",
    "/models": ".scalejob/models",
    "file:///models/segments": ".scalejob/models/segments",
    "file://localhost/models/my%20model": ".scalejob/models/my model",
    "/data/2013/*.parquet": ".scalejob/data/2013/*.parquet",
    "/data/deep/x.csv": ".scalejob/data/deep/x.csv",
    "/data//x.csv": ".scalejob/data/x.csv",
    "/models-old/a": "/models-old/a",
    "/models/../etc/passwd": "/models/../etc/passwd",
    "/home/me/x.csv": "/home/me/x.csv",
    "x.csv": "x.csv",
    "models/a": "models/a",
    "s3://models/a": "s3://models/a",
    "--seed=3": "--seed=3",
}


@pytest.mark.parametrize("uri", TABLE)
def test_paths_under_a_mount_lie_below_the_root(uri: str) -> None:
    """And all others are used as they are."""
    assert MOUNTS.to_local(uri) == TABLE[uri]


def test_the_innermost_mount_holds_a_path() -> None:
    """/data/deep is a mount of its own, though /data is one too."""
    assert MOUNTS.mount_of("/data/deep/x.csv") == "/data/deep"
