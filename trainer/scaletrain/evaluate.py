"""How good a fitted model is, on the rows held back or else on the training rows.

Sums over rows are exact, so metrics do not depend on the number of ranks. They agree with sklearn.metrics, weights included.

    workload                 metrics
    linear, regression       r2, rmse
    linear, classification   accuracy, logLoss, auc
    svm                      accuracy, auc (of decision values)
    kmeans                   inertia, silhouette

auc: two classes, or the mean over one class against the rest. Exact up to EXACT_ROWS rows, which rank 0 then sorts; above, scores
fall into BINS equal bins. silhouette: of SAMPLE rows drawn by row number and weight. A metric that is not defined is left out:
auc if a class has no rows or if there are more than AUC_CLASSES, for each of which all scores would be computed anew;
silhouette with one cluster.

Legend: N rows of a block, K classes, S rows of a sample.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from scalejob.api.v1alpha1 import Workload

from .comm import Comm
from .data.blocks import Block, Blocks
from .estimators.base import Result
from .estimators.draws import Key, Purpose, draw_rows, gather_rows
from .estimators.kmeans.kmeans import KMeansResult
from .estimators.linalg import first_largest
from .estimators.linear.iterated import IteratedRegression
from .estimators.linear.logistic import LogisticResult
from .estimators.linear.regression import RegressionResult
from .estimators.moments import max_weight, row_weights
from .estimators.svm.rbf import RbfResult
from .estimators.svm.svm import SvmResult
from .exact import max_over_blocks, sum_blocks

EXACT_ROWS = 1_000_000
BINS = 1 << 16
AUC_CLASSES = 32
SAMPLE = 2_000

Metrics = dict[str, float]
_LEAST_LOG = math.log(np.finfo(np.float64).eps)  # sklearn.metrics.log_loss clips probabilities there


def evaluate(comm: Comm, workload: Workload, result: Result, blocks: Blocks) -> Metrics:
    """The metrics of the table, equal on all ranks; empty without rows of positive weight."""
    weight = _sum(comm, blocks, row_weights)
    if weight == 0:
        return {}
    found = _METRICS[type(result)](comm, blocks, result, weight)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _regression(comm: Comm, blocks: Blocks, result: RegressionResult | IteratedRegression, weight: float) -> Metrics:
    def residual(block: Block) -> Tensor:
        return (block.y_N.to(torch.float64) - result.decision(block.X_ND)) ** 2

    mean = _sum(comm, blocks, lambda block: row_weights(block) * block.y_N.to(torch.float64)) / weight
    left = _sum(comm, blocks, lambda block: row_weights(block) * residual(block))
    total = _sum(comm, blocks, lambda block: row_weights(block) * (block.y_N.to(torch.float64) - mean) ** 2)
    r2 = 1 - left / total if total else float(left == 0)
    return {"r2": r2 if blocks.num_rows > 1 else math.nan, "rmse": math.sqrt(left / weight)}


def _logistic(comm: Comm, blocks: Blocks, result: LogisticResult, weight: float) -> Metrics:
    def loss(block: Block) -> Tensor:
        log_NK = _two_columns(result.decision(block.X_ND)).log_softmax(1)
        return row_weights(block) * -log_NK.gather(1, block.y_N[:, None])[:, 0].clamp(min=_LEAST_LOG)

    def scores(block: Block) -> Tensor:
        return _two_columns(result.decision(block.X_ND)).softmax(1)

    return {
        "accuracy": _accuracy(comm, blocks, result.decision, weight),
        "logLoss": _sum(comm, blocks, loss) / weight,
        "auc": _auc(comm, blocks, scores),
    }


def _svm(comm: Comm, blocks: Blocks, result: SvmResult, weight: float) -> Metrics:
    def scores(block: Block) -> Tensor:
        return _two_columns(result.decision(block.X_ND))

    return {
        "accuracy": _accuracy(comm, blocks, result.decision, weight),
        "auc": _auc(comm, blocks, scores),
    }


def _rbf(comm: Comm, blocks: Blocks, result: RbfResult, weight: float) -> Metrics:
    """Rows are mapped once: the metrics ask for decision values many times."""
    return _svm(comm, result.features.of_blocks(comm, blocks), result.machine, weight)


def _kmeans(comm: Comm, blocks: Blocks, result: KMeansResult, weight: float) -> Metrics:
    return {
        "inertia": _sum(comm, blocks, lambda block: row_weights(block) * result.squared_distances(block.X_ND)),
        "silhouette": _silhouette(comm, blocks, result),
    }


_METRICS: dict[type, Callable[..., Metrics]] = {
    RegressionResult: _regression,
    IteratedRegression: _regression,
    LogisticResult: _logistic,
    SvmResult: _svm,
    RbfResult: _rbf,
    KMeansResult: _kmeans,
}


def _sum(comm: Comm, blocks: Blocks, term: Callable[[Block], Tensor]) -> float:
    """The exact sum over all rows of a term (N,). Two passes: the first finds its bound."""
    start = torch.zeros(1, dtype=torch.float64)
    there = start.to(comm.device)
    largest = max_over_blocks(
        comm, blocks, lambda block: torch.cat([there, term(block).abs()]).amax().reshape(1), start
    )
    (total,) = sum_blocks(comm, blocks, lambda block: [term(block).sum()], [largest[0] * max(blocks.num_rows, 1)])
    return float(total)


def _two_columns(decision: Tensor) -> Tensor:
    """Decision values (N, K), also for two classes."""
    return decision if decision.ndim == 2 else torch.stack([torch.zeros_like(decision), decision], dim=1)


def _accuracy(comm: Comm, blocks: Blocks, decision: Callable[[Tensor], Tensor], weight: float) -> float:
    def right(block: Block) -> Tensor:
        return row_weights(block) * (first_largest(_two_columns(decision(block.X_ND))) == block.y_N)

    return _sum(comm, blocks, right) / weight


def _auc(comm: Comm, blocks: Blocks, scores: Callable[[Block], Tensor]) -> float:
    """NaN if a class has no rows, or if there are too many classes."""
    classes = _num_columns(comm, blocks, scores)
    if classes > AUC_CLASSES:
        return math.nan
    area = _exact_area if blocks.num_rows <= EXACT_ROWS else _binned_area
    wanted = range(classes) if classes > 2 else [1]
    return sum(area(comm, blocks, lambda block, c=c: scores(block)[:, c], c) for c in wanted) / len(wanted)


def _num_columns(comm: Comm, blocks: Blocks, scores: Callable[[Block], Tensor]) -> int:
    def columns(block: Block) -> Tensor:
        return torch.tensor([scores(block).shape[1]]).to(block.device)

    return int(max_over_blocks(comm, blocks, columns, torch.zeros(1, dtype=torch.int64))[0])


def _exact_area(comm: Comm, blocks: Blocks, score: Callable[[Block], Tensor], positive: int) -> float:
    """The area under the ROC curve, by scikit-learn on rank 0."""
    columns = [
        torch.cat([torch.empty(0, dtype=torch.float64), *(part.cpu() for part in blocks.map(column))])
        for column in (score, lambda block: (block.y_N == positive).to(torch.float64), row_weights)
    ]
    score_N, is_positive_N, weight_N = (torch.cat(comm.all_gather(column)).numpy() for column in columns)
    order_N = np.lexsort((weight_N, is_positive_N, score_N))  # the same sums for any order of ranks

    def area() -> float:
        from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - takes a second

        has = [weight_N[is_positive_N == value].sum() > 0 for value in (0, 1)]
        if not all(has):
            return math.nan
        return float(roc_auc_score(is_positive_N[order_N], score_N[order_N], sample_weight=weight_N[order_N]))

    return _of_rank_0(comm, area)


def _binned_area(comm: Comm, blocks: Blocks, score: Callable[[Block], Tensor], positive: int) -> float:
    """The area under the ROC curve of scores rounded to BINS bins: wrong by half the pairs that share a bin, at most."""
    start = torch.full((2,), -math.inf, dtype=torch.float64)
    there = start.to(comm.device)
    ends = max_over_blocks(
        comm, blocks, lambda block: torch.stack([-score(block), score(block)]).amax(1) if len(block) else there, start
    )
    low, width = -float(ends[0]), float(ends.sum()) or 1.0

    def histogram(block: Block) -> list[Tensor]:
        bin_N = ((score(block) - low) / width * (BINS - 1)).round().to(torch.int64)
        cell_N = bin_N + BINS * (block.y_N == positive)
        # On the CPU, which adds in a fixed order: there are too many bins for `totals_by_group`.
        count_B = torch.bincount(cell_N.cpu(), weights=row_weights(block).cpu(), minlength=2 * BINS)
        return [count_B.to(block.device)]

    bound = torch.full((2 * BINS,), blocks.num_rows * max_weight(comm, blocks), dtype=torch.float64)
    negative, positives = sum_blocks(comm, blocks, histogram, [bound])[0].split(BINS)
    pairs = float(negative.sum()) * float(positives.sum())
    below = negative.cumsum(0) - negative / 2
    return float((positives * below).sum()) / pairs if pairs else math.nan


def _silhouette(comm: Comm, blocks: Blocks, result: KMeansResult) -> float:
    """The mean silhouette of a sample, by scikit-learn on rank 0."""
    X_SD = gather_rows(comm, blocks, draw_rows(comm, blocks, SAMPLE, Key(0, Purpose.SAMPLE)))

    def silhouette() -> float:
        from sklearn.metrics import silhouette_score  # noqa: PLC0415 - takes a second

        label_S = result.labels(X_SD).numpy()
        is_defined = 1 < len(np.unique(label_S)) < len(label_S)
        return float(silhouette_score(X_SD.numpy(), label_S)) if is_defined else math.nan

    return _of_rank_0(comm, silhouette)


def _of_rank_0(comm: Comm, compute: Callable[[], float]) -> float:
    value = compute() if comm.rank == 0 else math.nan
    return float(comm.broadcast(torch.tensor([value], dtype=torch.float64))[0])
