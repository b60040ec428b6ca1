"""Between fitted values and saved models: what a model holds, and the scikit-learn estimator that it becomes."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from scalejob.api.v1alpha1 import Spec, Workload

from .artifact import Model, input_problems, read
from .estimators import estimator_for
from .estimators.base import Params, Result
from .prepare.steps import STEPS, Step

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

PACKAGES = ("scalejob", "torch", "numpy", "scikit-learn")


def params_of(workload: Workload) -> Params:
    """The member that is set."""
    params: Params = getattr(workload, workload.name)
    return params


def to_model(
    spec: Spec, steps: tuple[Step, ...], result: Result, *, classes: np.ndarray | None, about: Mapping[str, Any]
) -> Model:
    """The model to save. `about`: features, rows, metrics: what a reader wants to know."""
    arrays = {f"estimator/{name}": value for name, value in result.arrays().items()}
    for number, step in enumerate(steps):
        arrays |= {f"prepare/{number}/{name}": value for name, value in step.arrays().items()}
    spec_json = spec.task_json()
    facts = {
        "workload": spec_json["workload"],
        "estimator": result.facts(),
        "prepare": [{"kind": step.kind, **step.facts()} for step in steps],
        "classes": None if classes is None else classes.tolist(),
        **about,
        "data": spec_json.get("data"),
        "seed": spec.seed,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    return Model(arrays=arrays, facts=json.loads(json.dumps(facts)))


def load(uri: str | os.PathLike[str]) -> "BaseEstimator":
    """The fitted scikit-learn estimator, or a Pipeline of the preparation and the estimator, built from numbers alone."""
    model = read(uri)
    with input_problems(os.fspath(uri)):
        return to_sklearn(model)


def to_sklearn(model: Model) -> "BaseEstimator":
    """The fitted estimator; with a preparation, a Pipeline whose last step it is."""
    from sklearn.pipeline import Pipeline  # noqa: PLC0415 - takes seconds

    facts = model.facts
    workload = Workload.model_validate(facts["workload"])
    result = estimator_for(workload).restore(params_of(workload), _part(model, "estimator/"), facts["estimator"])
    classes = None if facts["classes"] is None else np.array(facts["classes"])
    estimator = result.to_sklearn(params_of(workload), classes)
    prepare = [(step["kind"], _step(model, number)) for number, step in enumerate(facts["prepare"])]
    steps = [*prepare, *(estimator.steps if isinstance(estimator, Pipeline) else [(workload.name, estimator)])]
    if facts["featuresNamed"]:
        # Only the first step sees the columns: the others get arrays from the step before.
        _, first = steps[0]
        if len(facts["features"]) != first.n_features_in_:
            raise ValueError(f"{len(facts['features'])} names for {first.n_features_in_} features")
        first.feature_names_in_ = np.array(facts["features"], dtype=object)
    return Pipeline(steps) if len(steps) > 1 else estimator


def _step(model: Model, number: int) -> "BaseEstimator":
    facts = model.facts["prepare"][number]
    return STEPS[facts["kind"]].restore(_part(model, f"prepare/{number}/"), facts).to_sklearn()


def _part(model: Model, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in model.arrays.items() if name.startswith(prefix)}
