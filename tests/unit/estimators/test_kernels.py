"""The RBF kernel by Nystroem, against scikit-learn's own features and its exact kernel machine."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits, make_moons
from sklearn.kernel_approximation import Nystroem as SklearnNystroem
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from scalejob.api.v1alpha1 import Svm
from scaletrain.comm import SoloComm
from scaletrain.data.blocks import rows_per_block
from scaletrain.estimators.svm import kernels
from scaletrain.estimators.svm.nystroem import fit_nystroem, scale_gamma
from tests.unit.estimators.builders import fit, make_blocks

DATA = {
    "digits": load_digits,
    "breast cancer": load_breast_cancer,
    "two moons": lambda return_X_y: make_moons(2000, noise=0.25, random_state=0),
}


def rbf(**fields: object) -> Svm:
    return Svm(kernel="rbf", **fields)


def moons(n: int, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_moons(n, noise=0.3, random_state=1)
    return X.astype(dtype), y


@pytest.mark.parametrize("name", DATA)
def test_accuracy_is_that_of_the_exact_kernel(name):
    """On rows held back: at most 0.5 points below SVC(kernel='rbf')."""
    X, y = DATA[name](return_X_y=True)
    X, X_held, y, y_held = train_test_split(X, y, test_size=0.4, random_state=0)
    scaler = StandardScaler().fit(X)
    X, X_held = scaler.transform(X), scaler.transform(X_held)
    params = rbf(tolerance=1e-3)
    model = fit(kernels, params, make_blocks(X.astype(np.float32), y, rows=2048)).to_sklearn(params, None)
    assert model.score(X_held, y_held) >= SVC(kernel="rbf").fit(X, y).score(X_held, y_held) - 0.005


def test_with_all_rows_the_kernel_is_exact():
    """Fewer rows than landmarks: all are landmarks, and decision values are those of SVC."""
    X, y = moons(150)
    params = rbf(loss="hinge", gamma=0.7, C=2.0, tolerance=1e-7)
    result = fit(kernels, params, make_blocks(X, y))
    want = SVC(kernel="rbf", gamma=0.7, C=2.0, tol=1e-8).fit(X, y).decision_function(X)
    assert len(result.features.landmarks_MD) == 150
    assert result.decision(torch.from_numpy(X)).numpy() == pytest.approx(want, abs=2e-4)


def test_the_objective_is_that_of_linear_svc_on_scikit_learns_features():
    """In float64 features computed by scikit-learn, the coefficients reach LinearSVC's minimum."""
    X, y = moons(400)
    params = rbf(landmarks=30)
    model = fit(kernels, params, make_blocks(X, y)).to_sklearn(params, None)
    features, linear = model[0].transform(X), model[1]
    best = LinearSVC(tol=1e-10, max_iter=100_000).fit(features, y)

    def objective(m: LinearSVC) -> float:
        margin = np.where(y == 1, 1, -1) * m.decision_function(features)
        return (m.coef_**2).sum() / 2 + m.intercept_[0] ** 2 / 2 + (np.maximum(0, 1 - margin) ** 2).sum()

    assert objective(linear) == pytest.approx(objective(best), rel=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_scikit_learn_pipeline_decides_the_same(rng, classes):
    """Nystroem with our landmarks and LinearSVC, to 1e-6, for rows far from 0 as well."""
    X = rng.standard_normal((300, 4)) + 50
    y = np.digitize(((X - 50) ** 2).sum(1), [3, 6][: classes - 1])
    params = rbf(landmarks=40)
    result = fit(kernels, params, make_blocks(X, y))
    model = result.to_sklearn(params, np.array(["a", "b", "c"][:classes]))
    assert model.decision_function(X) == pytest.approx(result.decision(torch.from_numpy(X)).numpy(), abs=1e-6)
    assert set(model.predict(X)) == set("abc"[:classes])
    assert isinstance(model[0], SklearnNystroem)
    assert model[0].get_feature_names_out().shape == (model[0].transform(X).shape[1],)


def test_features_give_the_kernel_of_the_landmarks_back(rng):
    """phi(x) phi(l)' = k(x, l) for each landmark l."""
    X = rng.standard_normal((80, 3))
    features = fit_nystroem(SoloComm(), make_blocks(X), 0.3, 20, seed=1)
    landmarks = torch.from_numpy(features.landmarks_MD)
    found = features.of(torch.from_numpy(X)) @ features.of(landmarks).T
    assert found.numpy() == pytest.approx(rbf_kernel(X, features.landmarks_MD, gamma=0.3), abs=1e-9)


def test_repeated_rows_are_no_new_directions():
    """Two distinct rows make two features, however many landmarks there are."""
    X = np.repeat([[0.0, 1.0], [2.0, 0.0]], 10, axis=0)
    features = fit_nystroem(SoloComm(), make_blocks(X), None, 15, seed=0)
    assert features.normalization_RM.shape == (2, len(features.landmarks_MD))


def test_the_default_gamma_is_scikit_learns_scale(rng):
    """1 / (features * variance of all values)."""
    X = rng.standard_normal((200, 5)) * [1, 2, 3, 4, 5] + [0, 9, 0, 0, -3]
    assert scale_gamma(SoloComm(), make_blocks(X)) == pytest.approx(SVC(gamma="scale").fit(X, X[:, 0] > 0)._gamma)


def test_rows_of_weight_zero_are_no_landmarks(rng):
    """What does not count in the loss shapes no feature."""
    X = rng.standard_normal((60, 2))
    X[::2] += 1000
    features = fit_nystroem(SoloComm(), make_blocks(X, weight=np.arange(60) % 2.0), None, 100, seed=0)
    assert sorted(features.landmarks_MD.tolist()) == sorted(X[1::2].tolist())


def test_mapped_blocks_have_the_size_that_suits_their_features(rng):
    """Blocks of few features hold more rows than those of many: they are cut at multiples of the smaller size."""
    X = rng.standard_normal((5000, 1))
    features = fit_nystroem(SoloComm(), make_blocks(X), 1e6, 400, seed=0)
    mapped = features.of_blocks(SoloComm(), make_blocks(X, rows=rows_per_block(1), first_row=2048))
    assert [len(block) for block in mapped.blocks] == [2048, 2048, 904]
    assert mapped.num_blocks == 3
    assert {block.X_ND.dtype for block in mapped.blocks} == {torch.float32}
