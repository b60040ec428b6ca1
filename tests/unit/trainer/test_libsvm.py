"""libsvm files: the numbers of scikit-learn, each row read once, messages that name the line; sparse rows up to a model."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, random_array
from sklearn.datasets import dump_svmlight_file, load_svmlight_file
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from scalejob.api.v1alpha1 import Files, Linear, Prepare, Spec, Svm
from scaletrain.comm import SoloComm
from scaletrain.data import blocks as blocks_module
from scaletrain.data import libsvm
from scaletrain.data import load as load_module
from scaletrain.data.blocks import GRAM_FEATURES
from scaletrain.data.files import open_files
from scaletrain.data.load import Dataset, load
from scaletrain.data.sparse import SparseRows
from scaletrain.data.table import LabelKind
from scaletrain.digests import digest_of_rows
from scaletrain.errors import InvalidData, InvalidSpec
from scaletrain.estimators import estimator_for
from scaletrain.evaluate import evaluate
from tests.ranks import on_ranks

WIDE = GRAM_FEATURES + 1
TASKS = [{"svm": {}}, {"linear": {"task": "classification"}}, {"linear": {"task": "regression", "l2": 1.0}}]


def quiet(step: int, **_: object) -> None:
    """Progress that nobody watches."""


def rows(num_features: int, num_rows: int = 150) -> tuple[csr_array, np.ndarray]:
    """A few values in each row, the last column among them, and labels -1 and 1."""
    rng = np.random.default_rng(0)
    X = random_array((num_rows, num_features), density=10 / num_features, format="lil", rng=rng)
    X[num_rows // 2, num_features - 1] = 0.25
    X[:, 1] = rng.standard_normal((num_rows, 1))
    return csr_array(X), np.where(X[:, [1]].toarray()[:, 0] + rng.standard_normal(num_rows) > 0, 1, -1)


def spec(uri: Path, workload: dict, **more: object) -> Spec:
    files = {"uri": str(uri), "label": "label"}
    return Spec(workload=workload, data={"files": files}, output={"uri": "/nowhere"}, **more)


def read(uri: Path, workload: dict, *, size: int = 1, **more: object) -> list[Dataset]:
    return on_ranks(size, lambda comm: load(comm, spec(uri, workload, **more), 1, quiet))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As a rank computes: with more, ranks that are threads fight for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files in many parts, and blocks of few rows."""
    monkeypatch.setattr(libsvm, "PART_BYTES", 1000)
    for module in (blocks_module, load_module):
        monkeypatch.setattr(module, "rows_per_block", lambda _: 50)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("num_features", [20, WIDE], ids=["dense", "sparse"])
def test_numbers_are_those_of_scikit_learn(tmp_path, num_features):
    """Two files in many parts on three ranks: each row once, in order, with the same numbers."""
    X, y = rows(num_features)
    dump_svmlight_file(X[:100], y[:100], str(tmp_path / "a.libsvm"), zero_based=False, comment="made up")
    dump_svmlight_file(X[100:], y[100:], str(tmp_path / "b.svmlight"), zero_based=False)
    parts = read(tmp_path, TASKS[0], size=3)
    blocks = [block for part in parts for block in part.train.blocks]
    dense = [b.X_ND.rows.toarray() if isinstance(b.X_ND, SparseRows) else b.X_ND.numpy() for b in blocks]
    want = [
        load_svmlight_file(str(tmp_path / name), n_features=num_features, zero_based=False)
        for name in ("a.libsvm", "b.svmlight")
    ]
    assert all(isinstance(block.X_ND, SparseRows) == (num_features == WIDE) for block in blocks)
    np.testing.assert_array_equal(np.concatenate(dense), np.concatenate([X.toarray() for X, _ in want]))
    np.testing.assert_array_equal(torch.cat([b.y_N for b in blocks]) * 2 - 1, np.concatenate([y for _, y in want]))
    assert parts[0].train.classes.tolist() == [-1, 1]
    assert parts[0].columns.features[-1] == str(num_features)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("workload", TASKS, ids=["svm", "logistic", "regression"])
def test_sparse_rows_give_equal_bytes_on_any_number_of_ranks(tmp_path, workload):
    """1, 2 and 4 ranks: one model, one digest of the rows, equal metrics on rows held back."""
    dump_svmlight_file(*rows(WIDE), str(tmp_path / "a.libsvm"), zero_based=False)
    asked = spec(tmp_path, workload, validation={"fraction": 0.2})

    def learned(comm):
        data = load(comm, asked, 1, quiet)
        params = getattr(asked.workload, asked.workload.name)
        result = estimator_for(asked.workload).fit(comm, data.train, params, seed=0, progress=quiet)
        arrays = {name: value.tobytes() for name, value in result.arrays().items()}
        return (
            arrays,
            result.facts(),
            evaluate(comm, asked.workload, result, data.held),
            digest_of_rows(comm, data.train),
        )

    (want,) = on_ranks(1, learned)
    assert want[1]["converged"]
    for size in (2, 4):
        assert on_ranks(size, learned) == [want] * size


def test_sparse_rows_have_the_objective_of_scikit_learn(tmp_path):
    """LinearSVC and LogisticRegression on the same rows; the fitted models predict rows of scipy."""
    X, y = rows(WIDE)
    dump_svmlight_file(X, y, str(tmp_path / "a.svm"), zero_based=False)
    (data,) = read(tmp_path, TASKS[0])
    peers = {
        "svm": (Svm(), LinearSVC(dual=False, tol=1e-8), lambda z: np.maximum(0, 1 - z) ** 2),
        "linear": (Linear(task="classification"), LogisticRegression(tol=1e-9), lambda z: np.logaddexp(0, -z)),
    }
    for name, (params, peer, loss) in peers.items():
        workload = spec(tmp_path, {name: params.model_dump(by_alias=True, exclude_none=True)}).workload
        result = estimator_for(workload).fit(SoloComm(), data.train, params, seed=0, progress=quiet)
        model = result.to_sklearn(params, data.train.classes)

        def objective(fitted, name=name, loss=loss):
            penalised = (*fitted.coef_[0], *(fitted.intercept_ if name == "svm" else ()))
            return np.square(penalised).sum() / 2 + loss(y * fitted.decision_function(X)).sum()

        assert objective(model) <= objective(peer.fit(X, y)) * (1 + 1e-6)
        assert model.coef_.shape == (1, WIDE)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0:2 3:1", "line 3: index 0 in '0:2': indices count from 1 in this format"),
        ("1 3:1 2:1", "line 3: index 2 after 3: indices have to ascend"),
        ("1 2000000000:1", "line 3: index 2000000000: the largest allowed is 1000000"),
        ("1 99999999999999999999:1", "line 3: index 99999999999999999999: the largest allowed is 1000000"),
        ("1 2:x", "line 3: the value of '2:x' is not a finite number"),
        ("1 2:nan", "line 3: the value of '2:nan' is not a finite number"),
        ("1 hello", "line 3: 'hello' is not index:value"),
        ("one 2:1", "line 3: the label has to be one finite number; 'one' came"),
    ],
)
@pytest.mark.parametrize("part_bytes", [4, 1 << 20], ids=["many parts", "one part"])
def test_errors_name_file_line_and_what_came(tmp_path, monkeypatch, line, message, part_bytes):
    monkeypatch.setattr(libsvm, "PART_BYTES", part_bytes)
    file = tmp_path / "bad.libsvm"
    file.write_text(f"-1 qid:3 1:1\n# nothing\n{line}\n1 2:1\n")
    with pytest.raises(InvalidData, match=re.escape(f"{file}: {message}")):
        read(file, TASKS[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"label": "y"},
            "data.files.label is y: the label of libsvm files is the first number of a line, called label",
        ),
        ({"label": "label", "weight": "w"}, "libsvm files have no weights"),
        ({"label": "label", "features": ["1"]}, "data.files.features"),
    ],
)
def test_fields_without_a_place_in_the_format_are_refused(tmp_path, fields, message):
    (tmp_path / "a.libsvm").write_text("1 1:1\n")
    with pytest.raises(InvalidSpec, match=re.escape(message)):
        open_files(SoloComm(), Files(uri=str(tmp_path), **fields), LabelKind.CLASS, 1)


@pytest.mark.parametrize(
    ("workload", "prepare", "message"),
    [
        ({"kmeans": {"clusters": 2}}, {}, "this workload cannot"),
        ({"svm": {"kernel": "rbf"}}, {}, "workload.svm with kernel: linear can learn from them"),
        ({"svm": {}}, {"scale": "standard"}, "prepare.scale: standard would fill their zeros"),
        ({"svm": {}}, {"missing": "mean"}, "prepare.missing: mean has nothing to do"),
        ({"svm": {}}, {"pca": {"components": 2}}, "prepare.pca would fill their zeros"),
    ],
)
def test_what_would_fill_the_zeros_is_refused(tmp_path, workload, prepare, message):
    """With the number of features, and what is allowed."""
    (tmp_path / "a.libsvm").write_text(f"1 1:1\n-1 {WIDE}:1\n")
    with pytest.raises(InvalidSpec, match=re.escape(message)):
        read(tmp_path, workload, prepare=Prepare(**prepare))


def test_the_zeros_of_a_matrix_of_few_features_may_be_filled(tmp_path):
    """Up to the limit, the rows are as those of any other format."""
    (tmp_path / "a.libsvm").write_text("1 1:1\n-1 3:1\n")
    (data,) = read(tmp_path, {"kmeans": {"clusters": 2}}, prepare=Prepare(scale="standard"))
    np.testing.assert_array_equal(data.train.blocks[0].X_ND, [[1, 0, 0], [0, 0, 1]])
