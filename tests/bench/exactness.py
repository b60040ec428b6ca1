"""What exactness costs: the same fit with plain sums of floats in place of integers. The switch exists in here only.

Both sides run in processes of their own and take turns, as in `side_by_side`.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tests.bench.case import Case, Data, Fit
from tests.bench.kmeans_cases import ITERATIONS, blobs
from tests.bench.linear_cases import regression
from tests.bench.ours import blocks_of, fit_of, kmeans_fields
from tests.bench.svm_cases import classes

SHARE = 1.15  # at most
Prepare = Callable[[Data], Fit]


def plain_sums() -> None:
    """Replaces the exact sums of all modules of the trainer by sums of floats, which depend on the order."""
    from scaletrain import exact  # noqa: PLC0415 - after the number of threads is set

    for module in list(sys.modules.values()):
        if getattr(module, "sum_blocks", None) is exact.sum_blocks:
            module.sum_blocks = _plain  # type: ignore[attr-defined]


def _plain(_comm: Any, blocks: Any, partial: Callable[[Any], Sequence[Any] | None], bounds: Sequence[Any]) -> list[Any]:
    import torch  # noqa: PLC0415

    total = [torch.zeros(bound.shape, dtype=torch.float64) for bound in bounds]
    for values in blocks.map(partial):
        if values is None:
            continue
        for sum_, value in zip(total, values, strict=True):
            sum_ += value
    return total


def _kmeans(data: Data) -> Fit:
    return fit_of("kmeans", kmeans_fields(data[0][:100], ITERATIONS), blocks_of(data))


def _svm(data: Data) -> Fit:
    return fit_of("svm", {}, blocks_of(data))


def _regression(data: Data) -> Fit:
    return fit_of("linear", {"task": "regression"}, blocks_of(data))


def exact_side(data: Data, *, prepare: Prepare) -> tuple[Fit, None]:
    return prepare(data), None


def plain_side(data: Data, *, prepare: Prepare) -> tuple[Fit, None]:
    fit = prepare(data)

    def with_plain_sums() -> Any:
        plain_sums()
        return fit()

    return with_plain_sums, None


def _case(name: str, data: Callable[[float], Data], prepare: Prepare) -> Case:
    return Case(
        name=f"{name}: exact beside plain sums",
        times=1 / SHARE,
        data=data,
        ours=partial(exact_side, prepare=prepare),
        peer=partial(plain_side, prepare=prepare),
    )


CASES = (
    _case("kmeans 200,000 x 64, k=100", partial(blobs, rows=200_000, features=64), _kmeans),
    _case("svm 100,000 x 100", partial(classes, rows=100_000, dtype="float32"), _svm),
    _case("linear regression 200,000 x 100", regression, _regression),
)
