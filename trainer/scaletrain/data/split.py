"""Which rows are held back for validation: a function of the row's global number alone."""

import numpy as np

from .draws import Purpose


def held_back(row_N: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A mask, bool (N,): the rows whose hash, as a number in [0, 1), is below `fraction`. row_N: int64."""
    return uniform(row_N, seed, Purpose.SPLIT) < fraction


def uniform(row_N: np.ndarray, seed: int, purpose: Purpose) -> np.ndarray:
    """One number in [0, 1), float64 (N,), for each row: SplitMix64 (Steele et al., OOPSLA 2014) keyed by seed and purpose."""
    key = _mix(np.array([seed], dtype=np.uint64) ^ np.uint64(purpose << 56))
    return (_mix(row_N.astype(np.uint64) ^ key) >> np.uint64(11)) * 2.0**-53


def _mix(z: np.ndarray) -> np.ndarray:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
