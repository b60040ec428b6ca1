"""The folders of a job's mounts below .scalejob, and what has to lie in them before it starts."""

import base64
import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scalejob.api.v1alpha1 import Spec, VolumeMount

from .paths import Mounts, local_path

Object = Mapping[str, Any]


def mounts_of(spec: Spec) -> Mounts:
    return Mounts(paths=[mount.mount_path for mount in spec.pod.volume_mounts or ()])


def localise(spec: Spec) -> Spec:
    """The spec with the paths of its data, cache, output, checkpoint and first centres as they are here."""
    mounts = mounts_of(spec)
    wire = spec.to_wire()
    for parent, field in (
        ("data", "files"),
        ("data", "cache"),
        ("workload", "kmeans"),
        ("output", None),
        ("checkpoint", None),
    ):
        holder = wire.get(parent, {})
        holder = holder.get(field, {}) if field else holder
        for name in ("uri", "centersUri", "path"):
            if name in holder:
                holder[name] = mounts.to_local(holder[name])
    return Spec.model_validate(wire)


def missing_inputs(spec: Spec) -> list[str]:
    """What has to be put below .scalejob first, one line for each input under a mount that is not there."""
    mounts = mounts_of(spec)
    return [
        f"{field}: {uri} is under the mount {mounts.mount_of(uri)}, which is {local_path(mounts.mount_of(uri) or '')} here;"
        f" {mounts.to_local(uri)} does not exist"
        for field, uri in _inputs(spec)
        if mounts.mount_of(uri) and not glob.glob(mounts.to_local(uri), recursive=True)  # noqa: PTH207  - a path with its root
    ]


def _inputs(spec: Spec) -> Iterator[tuple[str, str]]:
    if spec.data and spec.data.files:
        yield "spec.data.files.uri", spec.data.files.uri
    if spec.workload.kmeans and spec.workload.kmeans.centers_uri:
        yield "spec.workload.kmeans.centersUri", spec.workload.kmeans.centers_uri


def prepare_folders(spec: Spec, documents: Sequence[Object]) -> None:
    """Makes the folders of the mounts that may be written to, and fills those of ConfigMaps that stand in the same file.

    OSError if they cannot be made.
    """
    config_maps = {name_of(document): document for document in documents if document.get("kind") == "ConfigMap"}
    volumes = {volume.name: volume for volume in spec.pod.volumes or ()}
    for mount in spec.pod.volume_mounts or ():
        volume = volumes.get(mount.name)
        source = volume.config_map if volume else None
        if source is not None:
            _write_files(mount, _files(source, config_maps.get(source.get("name", ""), {})))
        elif not mount.read_only and not mount.sub_path:
            Path(local_path(mount.mount_path)).mkdir(parents=True, exist_ok=True)


def name_of(document: Object) -> str:
    return str((document.get("metadata") or {}).get("name", ""))


def _files(source: Object, config_map: Object) -> dict[str, bytes]:
    """Path in the volume -> content; `items` selects and renames keys. ValueError if binaryData is not base64."""
    binary = {key: base64.b64decode(text) for key, text in (config_map.get("binaryData") or {}).items()}
    content = {**binary, **{key: str(text).encode() for key, text in (config_map.get("data") or {}).items()}}
    items = source.get("items") or [{"key": key, "path": key} for key in content]
    return {item["path"]: content[item["key"]] for item in items if item["key"] in content}


def _write_files(mount: VolumeMount, files: Mapping[str, bytes]) -> None:
    """With a subPath, the mount is one file or folder of the volume."""
    target = Path(local_path(mount.mount_path))
    for name, content in files.items():
        if mount.sub_path is None:
            path = target / name
        elif name == mount.sub_path:
            path = target
        else:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
