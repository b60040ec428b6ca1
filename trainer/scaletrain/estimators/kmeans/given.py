"""First centres from a file: the only thing that a fit reads."""

import numpy as np
import torch
from torch import Tensor

from scalejob.api.v1alpha1 import KMeans
from scaletrain.comm import Comm
from scaletrain.errors import InvalidData, InvalidSpec
from scaletrain.storage.file import File

FIELD = "workload.kmeans.centersUri"


def given_centers(comm: Comm, params: KMeans, num_features: int) -> Tensor:
    """The centres of `centersUri`, float64 (K, D), read by rank 0."""
    shape = (params.clusters, num_features)
    mine = _read(params.centers_uri, shape) if comm.rank == 0 else torch.empty(shape, dtype=torch.float64)
    return comm.broadcast(mine)


def _read(uri: str, shape: tuple[int, int]) -> Tensor:
    try:
        with File(uri, FIELD).open() as stream:
            found = np.load(stream, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InvalidData(f"{FIELD}: cannot read {uri} as a .npy file: {error}") from error
    if found.shape != shape or found.dtype.kind not in "fiu":
        raise InvalidSpec(
            f"{FIELD}: {uri} must hold numbers of shape {shape} (clusters, features after preparation), "
            f"but holds {found.dtype} of shape {found.shape}"
        )
    if not np.isfinite(found).all():
        raise InvalidData(f"{FIELD}: {uri} holds NaN or infinite values")
    return torch.from_numpy(found.astype(np.float64))
