"""Our side of the benchmarks: a workload, or the preparation, on blocks in memory."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.bench.case import Data, Fit


def blocks_of(data: Data) -> Any:
    import torch  # noqa: PLC0415 - after the number of threads is set, here and below

    from scaletrain.data.blocks import rows_per_block  # noqa: PLC0415
    from scaletrain.malloc import keep_freed_memory  # noqa: PLC0415
    from tests.unit.estimators.builders import make_blocks  # noqa: PLC0415

    torch.set_num_threads(1)
    keep_freed_memory()  # as in a rank
    X, y = data
    return make_blocks(X, y, rows=rows_per_block(X.shape[1]))


def fit_of(kind: str, fields: Mapping[str, Any], blocks: Any, comm: Any = None) -> Fit:
    """Fits `workload: {kind: fields}`; returns the result."""
    from scalejob.api.v1alpha1 import Workload  # noqa: PLC0415
    from scaletrain.comm import SoloComm  # noqa: PLC0415
    from scaletrain.estimators import estimator_for  # noqa: PLC0415
    from tests.unit.estimators.builders import quiet  # noqa: PLC0415

    workload = Workload.model_validate({kind: dict(fields)})
    params = getattr(workload, workload.name)
    return lambda: estimator_for(workload).fit(comm or SoloComm(), blocks, params, seed=0, progress=quiet)


def kmeans_fields(first: Any, iterations: int) -> dict[str, Any]:
    """K-Means from these centres, for so many iterations unless it converges."""
    import numpy as np  # noqa: PLC0415

    path = Path(tempfile.mkdtemp(prefix="bench-"), "centers.npy")
    np.save(path, first)
    return {
        "clusters": len(first),
        "init": "centers",
        "centersUri": str(path),
        "maxIterations": iterations,
        "tolerance": 0,
    }


def preparation_of(fields: Mapping[str, Any], blocks: Any) -> Callable[[], Any]:
    """Fits `prepare: fields`; returns the steps."""
    from scalejob.api.v1alpha1 import Prepare  # noqa: PLC0415
    from scaletrain.comm import SoloComm  # noqa: PLC0415
    from scaletrain.data.table import Columns  # noqa: PLC0415
    from scaletrain.prepare.preparation import fit_preparation  # noqa: PLC0415
    from tests.unit.estimators.builders import quiet  # noqa: PLC0415

    columns = Columns(features=tuple(map(str, range(blocks.num_features))), is_single=True, are_named=False)
    spec = Prepare.model_validate(dict(fields))
    return lambda: fit_preparation(SoloComm(), blocks, spec, columns, quiet)
