"""Metrics against sklearn.metrics."""

import numpy as np
import pytest
from sklearn import metrics as peer

from scalejob.api.v1alpha1 import KMeans, Linear, Svm, Workload
from scaletrain import evaluate as module
from scaletrain.comm import SoloComm
from scaletrain.estimators import estimator_for
from scaletrain.evaluate import evaluate
from tests.unit.estimators.builders import fit, make_blocks


def fitted(workload: Workload, blocks):
    """The result, the scikit-learn model, and the metrics on the training rows."""
    params = getattr(workload, workload.name)
    result = fit(estimator_for(workload), params, blocks)
    return result, result.to_sklearn(params, None), evaluate(SoloComm(), workload, result, blocks)


@pytest.fixture(params=[True, False], ids=["weighted", "plain"])
def weight(request, rng):
    return rng.integers(1, 4, 300).astype(float) if request.param else None


@pytest.fixture
def X(rng):
    return rng.standard_normal((300, 3))


def labels(rng, X, classes):
    return np.digitize(X @ [1.0, -1.0, 0.5] + rng.standard_normal(300), np.arange(classes - 1) - 0.5)


def test_regression(rng, X, weight):
    """R2 and RMSE, weighted."""
    y = X @ [1.0, 2.0, 3.0] + rng.standard_normal(300)
    _, model, found = fitted(Workload(linear=Linear(task="regression")), make_blocks(X, y, weight))
    assert found["r2"] == pytest.approx(peer.r2_score(y, model.predict(X), sample_weight=weight))
    assert found["rmse"] == pytest.approx(peer.root_mean_squared_error(y, model.predict(X), sample_weight=weight))


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic(rng, X, weight, classes):
    """Accuracy, log loss and AUC (macro, one against the rest), weighted."""
    y = labels(rng, X, classes)
    _, model, found = fitted(Workload(linear=Linear(task="classification")), make_blocks(X, y, weight))
    p = model.predict_proba(X)
    assert found["accuracy"] == pytest.approx(model.score(X, y, sample_weight=weight))
    assert found["logLoss"] == pytest.approx(peer.log_loss(y, p, sample_weight=weight))
    score = p[:, 1] if classes == 2 else p
    assert found["auc"] == pytest.approx(peer.roc_auc_score(y, score, multi_class="ovr", sample_weight=weight))


@pytest.mark.parametrize("classes", [2, 3])
def test_svm(rng, X, weight, classes):
    """Accuracy, and AUC of decision values."""
    y = labels(rng, X, classes)
    _, model, found = fitted(Workload(svm=Svm()), make_blocks(X, y, weight))
    decision = model.decision_function(X).reshape(300, -1)
    wanted = [1] if classes == 2 else range(classes)
    areas = [peer.roc_auc_score(y == c, decision[:, 0 if classes == 2 else c], sample_weight=weight) for c in wanted]
    assert found["accuracy"] == pytest.approx(model.score(X, y, sample_weight=weight))
    assert found["auc"] == pytest.approx(np.mean(areas))


def test_many_rows_fall_into_bins(rng, X, weight, monkeypatch):
    """Above the limit AUC comes from a histogram, right to 1e-4."""
    y = labels(rng, X, 2)
    exact = fitted(Workload(svm=Svm()), make_blocks(X, y, weight))[2]["auc"]
    monkeypatch.setattr(module, "EXACT_ROWS", 10)
    binned = fitted(Workload(svm=Svm()), make_blocks(X, y, weight))[2]["auc"]
    assert binned == pytest.approx(exact, abs=1e-4)


def test_many_classes_have_no_auc(rng, X, monkeypatch):
    """Its cost grows with the square of their number, and an id taken for a label would keep the job busy for hours."""
    y = labels(rng, X, 3)
    monkeypatch.setattr(module, "AUC_CLASSES", 2)
    assert set(fitted(Workload(svm=Svm()), make_blocks(X, y))[2]) == {"accuracy"}


def test_kmeans(X, weight):
    """Inertia, and the silhouette of all rows if they fit the sample."""
    result, model, found = fitted(Workload(kmeans=KMeans(clusters=4)), make_blocks(X, weight=weight))
    assert found["inertia"] == pytest.approx(result.inertia)
    assert found["silhouette"] == pytest.approx(peer.silhouette_score(X, model.predict(X)))


def test_what_is_not_defined_is_left_out(rng, X):
    """One cluster has no silhouette; rows of one class have no AUC; no rows have no metrics."""
    assert set(fitted(Workload(kmeans=KMeans(clusters=1)), make_blocks(X))[2]) == {"inertia"}
    y = labels(rng, X, 2)
    workload = Workload(svm=Svm())
    result, _, _ = fitted(workload, make_blocks(X, y))
    assert set(evaluate(SoloComm(), workload, result, make_blocks(X[:3], np.zeros(3, dtype=int)))) == {"accuracy"}
    assert evaluate(SoloComm(), workload, result, make_blocks(X[:0], y[:0])) == {}
