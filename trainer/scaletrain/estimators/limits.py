"""What the solvers can bear; docs/limits.md says it to users."""

from scaletrain.errors import InvalidSpec

# A Gram matrix of 5,000 features takes 200 MB on every rank, and its factorisation seconds.
MAX_FEATURES = 5_000


def check_features(num_features: int, workload: str) -> None:
    if num_features > MAX_FEATURES:
        raise InvalidSpec(
            f"workload.{workload}: at most {MAX_FEATURES:,} features are possible after preparation, the data have "
            f"{num_features:,}; reduce them, for example with prepare.pca"
        )
