"""What people do with estimators, with real parts of scikit-learn around them."""

import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import scaletrain
from scaletrain.sklearn.threads import num_threads, one_blas_thread

MODELS = [
    scaletrain.LinearRegression(),
    scaletrain.LogisticRegression(),
    scaletrain.LinearSVC(),
    scaletrain.KMeans(3, random_state=0),
]
EACH_MODEL = pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)


def test_importing_the_package_imports_no_library() -> None:
    """A rank sets its threads first; and `import scaletrain` takes no second."""
    code = "import scaletrain, sys; print(dir(scaletrain), {'torch', 'numpy', 'sklearn'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "KMeans" in out
    assert out.rstrip().endswith("set()")


def test_a_name_that_is_not_there() -> None:
    """Says what any module says."""
    with pytest.raises(AttributeError, match="module 'scaletrain' has no attribute 'DBSCAN'"):
        _ = scaletrain.DBSCAN


def test_grid_search_over_a_pipeline() -> None:
    """Copies of the estimators are fitted at the same time."""
    X, y = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), scaletrain.LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.01, 1.0]}, cv=3, n_jobs=2)
    with joblib.parallel_backend("threading"):
        search.fit(X, y)
    assert search.best_score_ > 0.97
    assert search.predict(X[:3]).shape == (3,)


def test_scores_of_folds_and_calibration() -> None:
    """Other estimators take these for their base."""
    X, y = load_iris(return_X_y=True)
    assert cross_val_score(scaletrain.LinearSVC(), X, y).mean() > 0.9
    assert CalibratedClassifierCV(scaletrain.LinearSVC(), cv=3).fit(X, y).score(X, y) > 0.9


@EACH_MODEL
def test_frames_go_in_and_names_are_checked(model) -> None:
    """As in scikit-learn, the columns of `predict` are those of `fit`."""
    frame, y = load_iris(return_X_y=True, as_frame=True)
    fitted = clone(model).fit(frame, y)
    assert fitted.feature_names_in_.tolist() == list(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame.rename(columns={"sepal length (cm)": "length"}))


def test_frames_come_out_of_kmeans() -> None:
    """Columns are called as those of scikit-learn's KMeans."""
    frame = load_iris(as_frame=True).data
    out = scaletrain.KMeans(2, random_state=0).set_output(transform="pandas").fit_transform(frame)
    assert isinstance(out, pd.DataFrame)
    assert list(out) == ["kmeans0", "kmeans1"]


@EACH_MODEL
def test_a_fitted_model_survives_pickle(model) -> None:
    """joblib and the processes of a search depend on it."""
    X, y = load_iris(return_X_y=True)
    fitted = clone(model).fit(X, y)
    assert pickle.loads(pickle.dumps(fitted)).predict(X).tolist() == fitted.predict(X).tolist()  # noqa: S301


def test_labels_are_what_predict_says_for_rows_far_from_the_origin() -> None:
    """Also in float32, where squares of such rows have no digits left for the distances."""
    X = (load_iris().data + 30_000).astype(np.float32)
    model = scaletrain.KMeans(3, random_state=0).fit(X)
    assert model.predict(X).tolist() == model.labels_.tolist()


def test_an_int_is_the_seed_of_a_job_and_others_are_drawn_from() -> None:
    """The same int, the same model; a RandomState goes on from fit to fit."""
    X = load_digits().data
    state = np.random.RandomState(0)
    a, b, c, d = (scaletrain.KMeans(10, max_iter=1, random_state=s).fit(X).inertia_ for s in (7, 7, state, state))
    assert a == b
    assert c != d


@pytest.mark.parametrize(
    ("model", "X", "message"),
    [
        (scaletrain.KMeans(), [[0.0]], r"n_samples=1 should be >= n_clusters=8"),
        (scaletrain.KMeans(2, init=[[0.0]]), [[0.0], [1.0]], r"initial centers \(1, 1\) is not .* = \(2, 1\)"),
        (scaletrain.KMeans(init="k-means++"), [[0.0]], "The 'init' parameter of KMeans must be"),
        (scaletrain.LogisticRegression(), [[0.0], [1.0]], "only one class: \\[1.0\\]"),
        (scaletrain.LinearSVC(), [["a"], ["b"]], "could not convert string to float"),
        (scaletrain.LinearRegression(), [[1e80], [0.0]], "Input X contains values beyond 1e\\+75"),
        (scaletrain.LinearRegression(n_jobs=0), [[1.0], [0.0]], "The 'n_jobs' parameter of LinearRegression must be"),
    ],
)
def test_what_cannot_be_learned_from_is_said(model, X, message) -> None:
    """In scikit-learn's words where it has some."""
    with pytest.raises(ValueError, match=message):
        model.fit(X, np.ones(len(X)))


def test_fits_that_overlap_leave_the_threads_of_the_process_as_they_were(monkeypatch) -> None:
    """The limit holds until the last one ends. A job's rules say how many blocks run at once."""
    before = torch.get_num_threads()
    with one_blas_thread():
        with one_blas_thread():
            pass
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [num_threads(n) for n in (None, -1, 2)] == [3, 3, 2]
