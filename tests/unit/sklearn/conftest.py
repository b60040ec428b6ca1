"""One thread for BLAS, as the fits themselves have it: scikit-learn's side of a test is then as quick."""

import pytest

from tests.unit.estimators.conftest import one_thread

__all__ = ["one_thread"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without the check that needs a switch of scipy's in the environment, and skips itself."""
    items[:] = [item for item in items if "check_array_api_input" not in item.name]
