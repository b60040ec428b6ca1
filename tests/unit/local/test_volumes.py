"""What lies in the folders of the mounts before a job starts."""

from pathlib import Path
from typing import Any

import pytest

from scalejob.local.volumes import localise, missing_inputs, prepare_folders
from tests.unit.local.builders import make_command, make_job

FILES = {"files": {"uri": "/data/*.parquet"}}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def mounted(mount: dict[str, Any], **source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}], "volumeMounts": [{"name": "v", **mount}]}


DATA = mounted({"mountPath": "/data", "readOnly": True}, persistentVolumeClaim={"claimName": "data"})
CODE = mounted({"mountPath": "/code"}, configMap={"name": "code"})


def config_map(**fields: Any) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"name": "code"}, **fields}


def test_all_paths_of_the_task_become_local() -> None:
    """Data, first centres and output."""
    pod = mounted({"mountPath": "/v"}, emptyDir={})
    kmeans = {"kmeans": {"clusters": 3, "init": "centers", "centersUri": "/v/c.npy"}}
    job = make_job(workload=kmeans, data={"files": {"uri": "/v/x.csv"}}, output={"uri": "file:///v/m"}, pod=pod)
    spec = localise(job.spec)
    assert spec.data is not None
    assert spec.data.files is not None
    assert spec.workload.kmeans is not None
    assert spec.output is not None
    found = (spec.data.files.uri, spec.workload.kmeans.centers_uri, spec.output.uri)
    assert found == (".scalejob/v/x.csv", ".scalejob/v/c.npy", ".scalejob/v/m")


def test_missing_data_under_a_mount_are_named_with_their_place_here() -> None:
    """A file that is on the cluster's claim has to be put somewhere."""
    assert missing_inputs(make_job(data=FILES, pod=DATA).spec) == [
        "spec.data.files.uri: /data/*.parquet is under the mount /data, which is .scalejob/data here;"
        " .scalejob/data/*.parquet does not exist"
    ]


def test_data_that_are_there_or_under_no_mount_are_not_missing(tmp_path: Path) -> None:
    """What lies under no mount is the trainer's to find, as on a cluster."""
    (tmp_path / ".scalejob/data").mkdir(parents=True)
    (tmp_path / ".scalejob/data/x.parquet").touch()
    assert missing_inputs(make_job(data=FILES, pod=DATA).spec) == []
    assert missing_inputs(make_job(data={"files": {"uri": "/no/such.csv"}}).spec) == []


def test_folders_that_may_be_written_to_are_made() -> None:
    """A claim for models is empty here, but it is there; one for data is not made up."""
    prepare_folders(make_job().spec, [])
    prepare_folders(make_job(pod=DATA).spec, [])
    assert [path.name for path in Path(".scalejob").iterdir()] == ["models"]


def test_config_maps_of_the_file_become_files() -> None:
    """Text and binary."""
    documents = [config_map(data={"a.py": "print(1)\n"}, binaryData={"b.bin": "AAE="}), {"kind": "Pod"}]
    prepare_folders(make_command("python", "/code/a.py", pod=CODE).spec, documents)
    assert Path(".scalejob/code/a.py").read_text() == "print(1)\n"
    assert Path(".scalejob/code/b.bin").read_bytes() == b"\0\1"


def test_items_select_and_rename_keys() -> None:
    """As in a Pod."""
    source = {"name": "code", "items": [{"key": "a.py", "path": "sub/main.py"}]}
    pod = mounted({"mountPath": "/code"}, configMap=source)
    prepare_folders(make_command("x", pod=pod).spec, [config_map(data={"a.py": "1", "b.py": "2"})])
    assert [str(path) for path in Path(".scalejob/code").rglob("*.py")] == [".scalejob/code/sub/main.py"]


def test_a_sub_path_is_one_file_of_the_volume() -> None:
    """The mount path is then the file's own."""
    pod = mounted({"mountPath": "/app/main.py", "subPath": "a.py"}, configMap={"name": "code"})
    prepare_folders(make_command("x", pod=pod).spec, [config_map(data={"a.py": "1", "b.py": "2"})])
    assert [str(path) for path in Path(".scalejob").rglob("*.py")] == [".scalejob/app/main.py"]
