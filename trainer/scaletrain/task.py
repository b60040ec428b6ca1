"""What the job asks for: SCALEJOB_SPEC, checked once more, because a rank may also be started by hand."""

import json
from collections.abc import Mapping

from scalejob.api.check import check
from scalejob.api.v1alpha1 import Spec
from scalejob.api.yamltext import Document
from scalejob.contract import API_VERSION, KIND, Env

from .errors import InvalidSpec


def task_from_env(environ: Mapping[str, str]) -> Spec:
    """InvalidSpec with all problems at once."""
    if Env.SPEC not in environ:
        raise InvalidSpec(f"{Env.SPEC} is not set: it holds the job's spec as JSON; `scalejob run` sets it")
    try:
        spec = json.loads(environ[Env.SPEC])
    except json.JSONDecodeError as error:
        raise InvalidSpec(f"{Env.SPEC} is not JSON: {error}") from error
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "job"}, "spec": spec}
    problems = [f"{problem.path}: {problem.message}" for problem in check(Document(value=document, lines={(): 1}))]
    if problems:
        raise InvalidSpec("; ".join(problems))
    if spec["workload"].get("command"):
        raise InvalidSpec("spec.workload.command is a program of its own: it is not for the trainer")
    return Spec.model_validate(spec)
