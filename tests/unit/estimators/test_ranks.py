"""The number of ranks, and which rank has which block, change no bit of what is learned."""

import hashlib

import numpy as np
import pytest

from scalejob.api.v1alpha1 import KMeans, Linear, Sgd, Svm, Workload
from scaletrain.comm import SoloComm
from scaletrain.data.blocks import rows_per_block
from scaletrain.errors import InvalidSpec, PeerLost
from scaletrain.estimators import estimator_for
from scaletrain.estimators.kmeans import kmeans
from scaletrain.estimators.linear import linear
from scaletrain.evaluate import evaluate
from tests.unit.estimators.builders import fit, make_blocks, on_ranks

FEW = Sgd(epochs=3, batch_rows=50)
WORKLOADS = {
    "regression": Workload(linear=Linear(task="regression")),
    "logistic": Workload(linear=Linear(task="classification")),
    "multinomial": Workload(linear=Linear(task="classification", class_weight="balanced")),
    "elastic net": Workload(linear=Linear(task="regression", l1=20.0, l2=1.0)),
    "regression by sgd": Workload(linear=Linear(task="regression", solver="sgd", sgd=FEW)),
    "logistic by sgd": Workload(linear=Linear(task="classification", solver="sgd", sgd=FEW)),
    "multinomial by sgd": Workload(linear=Linear(task="classification", solver="sgd", sgd=FEW)),
    "svm": Workload(svm=Svm()),
    "svm hinge": Workload(svm=Svm(loss="hinge", tolerance=1e-3)),
    "svm of three classes": Workload(svm=Svm(class_weight="balanced")),
    "svm rbf": Workload(svm=Svm(kernel="rbf", landmarks=20)),
    "svm rbf of three classes": Workload(svm=Svm(kernel="rbf", landmarks=20, class_weight="balanced")),
    "k-means||": Workload(kmeans=KMeans(clusters=6)),
    "k-means from random rows": Workload(kmeans=KMeans(clusters=6, init="random", restarts=2)),
    "k-means with empty clusters": Workload(kmeans=KMeans(clusters=40, init="random")),
}


def data(name: str, dtype: type) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Rows, labels and weights for a workload: 203 rows with an offset, classes that overlap."""
    rng = np.random.default_rng(5)
    X = (rng.standard_normal((203, 4)) * [1, 10, 0.1, 3] + 4).astype(dtype)
    score = (X - 4) @ [1, 0.1, 10, 0.3] + rng.standard_normal(203)
    if "empty" in name:
        X = np.round(X)
    y = {
        "regression": score,
        "elastic net": score,
        "regression by sgd": score,
        "multinomial by sgd": np.digitize(score, [-1, 1]),
        "multinomial": np.digitize(score, [-1, 1]),
        "svm of three classes": np.digitize(score, [-1, 1]),
        "svm rbf of three classes": np.digitize(score, [-1, 1]),
    }
    label = None if "k-means" in name else y.get(name, (score > 0).astype(np.int64))
    return X, label, rng.integers(0, 3, 203).astype(float)


def sha(result) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(result.arrays().items()):
        digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("workload", [WORKLOADS["logistic"], WORKLOADS["svm"]], ids=["logistic", "svm"])
def test_a_first_point_from_a_sample_is_the_same_for_any_number_of_ranks(workload):
    """1 and 5 ranks, some without a sampled block: equal bytes; and few steps over all rows."""
    X, y = many_rows()
    blocks = make_blocks(X, y, rows=rows_per_block(1))
    module, params = estimator_for(workload), getattr(workload, workload.name)
    one, *five = on_ranks(1, blocks, lambda c, b: fit(module, params, b, comm=c)) + on_ranks(
        5, blocks, lambda c, b: fit(module, params, b, comm=c)
    )
    assert {sha(one)} == {sha(result) for result in five}
    assert np.max(one.n_iter) <= 8


def many_rows() -> tuple[np.ndarray, np.ndarray]:
    """40 blocks of one feature, and overlapping classes."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((40 * rows_per_block(1), 1), dtype=np.float32) + 1
    return X, (X[:, 0] + rng.standard_normal(len(X), dtype=np.float32) > 1.5).astype(np.int64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", WORKLOADS)
def test_equal_bytes_for_any_number_of_ranks(name, dtype):
    """1, 2, 3, 4 and 8 ranks, some without blocks: one SHA-256, equal facts and metrics on every rank."""
    workload = WORKLOADS[name]
    X, y, weight = data(name, dtype)
    blocks = make_blocks(X, y, weight, rows=37)  # 6 blocks: with 8 ranks, some have none
    module, params = estimator_for(workload), getattr(workload, workload.name)

    def work(comm, mine):
        result = fit(module, params, mine, comm=comm, seed=3)
        return sha(result), result.facts(), evaluate(comm, workload, result, mine)

    want = work(SoloComm(), blocks)
    for size in (2, 3, 4, 8):
        assert on_ranks(size, blocks, work) == [want] * size


@pytest.mark.parametrize("name", WORKLOADS)
def test_equal_bytes_for_any_assignment_of_blocks(name):
    """Blocks need not be contiguous, nor evenly spread."""
    workload = WORKLOADS[name]
    blocks = make_blocks(*data(name, np.float32), rows=37)
    module, params = estimator_for(workload), getattr(workload, workload.name)
    want = sha(fit(module, params, blocks, seed=3))
    found = on_ranks(
        3, blocks, lambda comm, mine: sha(fit(module, params, mine, comm=comm, seed=3)), order=[2, 0, 2, 2, 0, 2]
    )
    assert found == [want] * 3


def test_a_rank_may_have_one_class_only():
    """Labels sorted by class: each rank sees one, the model knows both."""
    X, y, weight = data("svm", np.float64)
    order = np.argsort(y, kind="stable")
    blocks = make_blocks(X[order], y[order], weight[order], rows=40)
    params = Linear(task="classification")
    want = sha(fit(linear, params, blocks))
    assert on_ranks(4, blocks, lambda comm, mine: sha(fit(linear, params, mine, comm=comm))) == [want] * 4


def test_more_clusters_than_rows_of_a_rank():
    """Each of the ranks has 10 rows, and 15 clusters are asked for."""
    X = np.random.default_rng(0).standard_normal((40, 2))
    blocks, params = make_blocks(X, rows=10), KMeans(clusters=15)
    want = sha(fit(kmeans, params, blocks))
    assert on_ranks(4, blocks, lambda comm, mine: sha(fit(kmeans, params, mine, comm=comm))) == [want] * 4


def test_what_the_data_cannot_bear_is_said_by_every_rank():
    """All ranks raise the same InvalidSpec, so that none waits for the others."""
    blocks, params = make_blocks(np.zeros((4, 2)), rows=1), KMeans(clusters=9)

    def work(comm, mine):
        with pytest.raises(InvalidSpec, match="clusters is 9") as caught:
            fit(kmeans, params, mine, comm=comm)
        return str(caught.value)

    assert len(set(on_ranks(3, blocks, work))) == 1


def test_an_error_of_the_leader_frees_the_others(monkeypatch):
    """If the decision on rank 0 fails, the other ranks do not wait for it."""
    X, y, weight = data("logistic", np.float64)

    def fail(*_):
        raise ArithmeticError("no direction")

    monkeypatch.setattr("scaletrain.estimators.margin.newton._Newton.direction", fail)

    def work(comm, mine):
        with pytest.raises(ArithmeticError if comm.rank == 0 else PeerLost):
            fit(linear, Linear(task="classification"), mine, comm=comm)
        return True

    assert all(on_ranks(3, make_blocks(X, y, weight), work))


def test_progress_is_told_on_every_rank_with_its_metric():
    """Steps count up and carry the metric's name and value."""
    X, y, weight = data("logistic", np.float64)

    def work(comm, mine):
        told = []
        linear.fit(
            comm,
            mine,
            Linear(task="classification"),
            seed=0,
            progress=lambda step, **more: told.append((step, more["metric"])),
        )
        return told

    first, second = on_ranks(2, make_blocks(X, y, weight), work)
    assert first == second
    assert [step for step, _ in first] == list(range(1, len(first) + 1))
    assert {metric for _, metric in first} == {"gradient"}
