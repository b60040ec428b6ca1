"""What a job may do with sparse rows: all that does not fill their zeros."""

import torch

from scalejob.api.v1alpha1 import LinearSolver, Missing, Prepare, Scale, Spec, SvmKernel
from scaletrain.errors import InvalidSpec

from .blocks import GRAM_FEATURES

FITS = "workload.linear with solver: exact and without l1, and workload.svm with kernel: linear"


def check_sparse(spec: Spec, num_features: int, device: torch.device) -> None:
    """InvalidSpec with everything that would fill the zeros, or has no sparse solver."""
    prepare, problems = spec.prepare or Prepare(), []
    if not _has_solver(spec):
        problems.append(f"{FITS} can learn from them; this workload cannot")
    if prepare.scale is not Scale.NONE:
        problems.append(f"prepare.scale: {prepare.scale} would fill their zeros; scale the values in the files instead")
    if prepare.missing in (Missing.MEAN, Missing.MEDIAN):
        problems.append(f"prepare.missing: {prepare.missing} has nothing to do: what is not written is 0")
    if prepare.pca:
        problems.append("prepare.pca would fill their zeros")
    if device.type != "cpu":
        problems.append("they are computed on CPUs only")
    if problems:
        raise InvalidSpec(
            f"rows of libsvm files stay sparse above {GRAM_FEATURES:,} features, the data have {num_features:,}: "
            + "; ".join(problems)
        )


def _has_solver(spec: Spec) -> bool:
    linear, svm = spec.workload.linear, spec.workload.svm
    if linear:
        return linear.solver is LinearSolver.EXACT and not linear.l1
    return svm is not None and svm.kernel is SvmKernel.LINEAR
