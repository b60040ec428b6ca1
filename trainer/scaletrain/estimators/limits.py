"""What the solvers can bear; docs/limits.md says it to users."""

from scaletrain.data.blocks import GRAM_FEATURES
from scaletrain.errors import InvalidSpec

MAX_FEATURES = 20_000


def is_wide(num_features: int) -> bool:
    """Whether solvers have to do without a Gram matrix."""
    return num_features > GRAM_FEATURES


def check_features(num_features: int, workload: str) -> None:
    if num_features > MAX_FEATURES:
        raise InvalidSpec(
            f"workload.{workload}: at most {MAX_FEATURES:,} features are possible after preparation, the data have "
            f"{num_features:,}; reduce them"
        )


def check_hinge(num_features: int) -> None:
    if is_wide(num_features):
        raise InvalidSpec(
            f"workload.svm.loss: hinge takes at most {GRAM_FEATURES:,} features after preparation, the data have "
            f"{num_features:,}; squaredHinge takes up to {MAX_FEATURES:,}"
        )
