"""Generated data sets whose truth is known. Each block of rows is drawn from its own stream: the same data for any number of ranks.

Values of features are float32. Row numbers, block lengths and streams are part of what a data set *is*.

Legend: N rows of a block, D features, I informative features, C classes or centres.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.random import Generator

from scalejob.api.v1alpha1 import Blobs, ClassificationData, RegressionData, Synthetic

from .blocks import map_in_order, rows_per_block
from .draws import Purpose, generator
from .table import Columns, LabelKind, Origin, Table

CENTER_BOX = 10.0  # centres of blobs lie in [-10, 10]^D, as in scikit-learn's make_blobs
MAX_COEFFICIENT = 100.0  # coefficients lie in [0, 100), as in scikit-learn's make_regression


class Recipe(Protocol):
    """One kind of data set: the truth, drawn once, and rows made from it."""

    num_classes: int  # 0: the label is a number

    def draw(self, rng: Generator, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """X float32 (N, D), and y: int64 classes or float64 numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobsRecipe:
    """Each row belongs to a centre drawn at random and lies around it with the same deviation in each direction."""

    center_CD: np.ndarray  # float64
    deviation: float

    @classmethod
    def of(cls, spec: Blobs, rng: Generator) -> "BlobsRecipe":
        center_CD = rng.uniform(-CENTER_BOX, CENTER_BOX, (spec.centers, spec.features))
        return cls(center_CD=center_CD, deviation=spec.cluster_std)

    @property
    def num_classes(self) -> int:
        return len(self.center_CD)

    def draw(self, rng: Generator, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        y_N = rng.integers(len(self.center_CD), size=num_rows)
        X_ND = rng.standard_normal((num_rows, self.center_CD.shape[1]), dtype=np.float32)
        X_ND *= np.float32(self.deviation)
        X_ND += self.center_CD.astype(np.float32)[y_N]
        return X_ND, y_N


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationRecipe:
    """Features in this order: informative (class mean + noise), redundant (mixtures of them), pure noise; all of deviation about 1."""

    mean_CI: np.ndarray  # float64, any two `classSep` apart if there are at most I + 1 classes
    mix_IR: np.ndarray  # float64
    num_noise: int
    flip: float

    @classmethod
    def of(cls, spec: ClassificationData, rng: Generator) -> "ClassificationRecipe":
        num_informative = spec.informative or spec.features - spec.redundant
        return cls(
            mean_CI=spec.class_sep * _apart(rng, spec.classes, num_informative),
            mix_IR=rng.standard_normal((num_informative, spec.redundant)) / math.sqrt(num_informative),
            num_noise=spec.features - num_informative - spec.redundant,
            flip=spec.flip,
        )

    @property
    def num_classes(self) -> int:
        return len(self.mean_CI)

    def draw(self, rng: Generator, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        y_N = rng.integers(self.num_classes, size=num_rows)
        noise = rng.standard_normal((num_rows, self.mean_CI.shape[1] + self.num_noise), dtype=np.float32)
        informative = noise[:, : self.mean_CI.shape[1]] + self.mean_CI.astype(np.float32)[y_N]
        redundant = informative @ self.mix_IR.astype(np.float32)
        flipped_N = rng.random(num_rows) < self.flip
        y_N[flipped_N] = rng.integers(self.num_classes, size=int(flipped_N.sum()))
        return np.hstack([informative, redundant, noise[:, self.mean_CI.shape[1] :]]), y_N


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionRecipe:
    """y = X coef + bias + noise; the informative features are the first ones."""

    coef_D: np.ndarray  # float64
    bias: float
    noise: float
    num_classes: int = 0

    @classmethod
    def of(cls, spec: RegressionData, rng: Generator) -> "RegressionRecipe":
        num_informative = spec.features if spec.informative is None else spec.informative
        coef_D = np.zeros(spec.features)
        coef_D[:num_informative] = rng.uniform(0, MAX_COEFFICIENT, num_informative)
        return cls(coef_D=coef_D, bias=spec.bias, noise=spec.noise)

    def draw(self, rng: Generator, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        X_ND = rng.standard_normal((num_rows, len(self.coef_D)), dtype=np.float32)
        y_N = X_ND.astype(np.float64) @ self.coef_D + self.bias + self.noise * rng.standard_normal(num_rows)
        return X_ND, y_N


RECIPES = {"blobs": BlobsRecipe, "classification": ClassificationRecipe, "regression": RegressionRecipe}


def recipe_for(spec: Synthetic, seed: int) -> Recipe:
    """The data set's recipe, its truth drawn."""
    kind = next(name for name in RECIPES if getattr(spec, name) is not None)
    return RECIPES[kind].of(getattr(spec, kind), generator(seed, Purpose.TRUTH))


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSource:
    """A Source of generated rows. Its features are called x0, x1, ..."""

    recipe: Recipe
    seed: int
    num_rows: int
    columns: Columns
    label_kind: LabelKind
    threads: int
    labels: list[object] = field(default_factory=list)

    @classmethod
    def of(cls, spec: Synthetic, seed: int, label_kind: LabelKind, threads: int) -> "SyntheticSource":
        shape = next(getattr(spec, name) for name in RECIPES if getattr(spec, name) is not None)
        recipe = recipe_for(spec, seed)
        return cls(
            recipe=recipe,
            seed=seed,
            num_rows=shape.rows,
            columns=Columns(features=tuple(f"x{j}" for j in range(shape.features)), is_single=True, are_named=False),
            label_kind=label_kind,
            threads=threads,
            labels=list(range(recipe.num_classes)) if label_kind is LabelKind.CLASS else [],
        )

    def read(self, rows: range) -> Iterator[Table]:
        length = rows_per_block(len(self.columns.features))
        assert rows.start % length == 0, "synthetic rows come in whole blocks"
        blocks = range(rows.start // length, -(-rows.stop // length))
        with ThreadPoolExecutor(self.threads, thread_name_prefix="draw") as pool:
            yield from map_in_order(pool, self.block, blocks, ahead=2 * self.threads)

    def block(self, block: int) -> Table:
        """The rows of one block."""
        length = rows_per_block(len(self.columns.features))
        row_N = np.arange(block * length, min((block + 1) * length, self.num_rows))
        X_ND, y_N = self.recipe.draw(generator(self.seed, Purpose.ROWS, block=block), len(row_N))
        target_N = {LabelKind.NONE: None, LabelKind.NUMBER: y_N.astype(np.float64), LabelKind.CLASS: y_N}
        return Table(origin=Origin(name="synthetic data"), row_N=row_N, X_ND=X_ND, y_N=target_N[self.label_kind])


def _apart(rng: Generator, num_points: int, num_dims: int) -> np.ndarray:
    """Points (C, I) of which any two have distance 1, turned at random; if there are too many for that, Gaussian ones."""
    if num_points > num_dims + 1:
        return rng.standard_normal((num_points, num_dims)) / math.sqrt(2 * num_dims)
    rotation, _ = np.linalg.qr(rng.standard_normal((num_dims, num_dims)))
    return _simplex(num_points) @ rotation[: num_points - 1]


def _simplex(num_points: int) -> np.ndarray:
    """The corners (C, C - 1) of a regular simplex with edges of length 1 around the origin: the columns of a Helmert matrix."""
    helmert = np.zeros((num_points - 1, num_points))
    for k in range(1, num_points):
        helmert[k - 1, :k] = 1 / math.sqrt(k * (k + 1))
        helmert[k - 1, k] = -k / math.sqrt(k * (k + 1))
    return helmert.T / math.sqrt(2)
