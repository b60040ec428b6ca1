"""`spec.workload`: what the job learns, or the user's own program."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from .base import Model, Rule, exactly_one, no_secret


class ClassWeight(StrEnum):
    NONE = "none"
    BALANCED = "balanced"


class LinearTask(StrEnum):
    REGRESSION = "regression"
    CLASSIFICATION = "classification"


class LinearSolver(StrEnum):
    EXACT = "exact"
    SGD = "sgd"


class Sgd(Model):
    """Mini-batches: each row is read twice an epoch, and a step needs the memory of a batch."""

    epochs: int = Field(default=50, ge=1, le=100_000, description="Times that all rows are used, at most.")
    batch_rows: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Rows of a step, from all workers together. Default: a 64th of the rows, at least 64 and at most 16,384.",
    )
    learning_rate: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="Length of the first steps, in units of 1 / (largest curvature), which is estimated from the data. "
        "Halved whenever an epoch makes the objective larger.",
    )


class Linear(Model):
    """Linear regression (least squares, ridge, lasso, elastic net), logistic or multinomial regression."""

    task: LinearTask = Field(
        description="regression (least squares) or classification (logistic; multinomial above two classes)."
    )
    l2: float | None = Field(
        default=None,
        ge=0,
        description="Weight of the squared norm of the coefficients; the intercept is never penalised. "
        "Regression: scikit-learn's alpha, default 0 (ordinary least squares). Classification: 1/C, default 1.",
    )
    l1: float | None = Field(
        default=None,
        ge=0,
        description="Weight of the sum of the absolute coefficients, beside the sum of squared errors and l2 * (sum of squared "
        "coefficients): elastic net, or lasso without l2. In terms of scikit-learn's ElasticNet, with n the number of rows or the "
        "sum of their weights: l1 = 2 n alpha l1_ratio, l2 = n alpha (1 - l1_ratio). Regression by solver: exact only.",
    )
    fit_intercept: bool = Field(default=True, description="Whether to learn an intercept.")
    class_weight: ClassWeight = Field(
        default=ClassWeight.NONE,
        description="balanced: weigh each class by rows / (classes * rows of the class). Classification only.",
    )
    solver: LinearSolver = Field(
        default=LinearSolver.EXACT,
        description="exact: the optimum by sums over all rows. sgd: mini-batches with variance reduction, for very many features.",
    )
    sgd: Sgd | None = Field(default=None, description="How mini-batches go. Only with solver: sgd.")
    max_iterations: int = Field(
        default=100, ge=1, le=100_000, description="Newton steps at most. Classification by solver: exact only."
    )
    tolerance: float = Field(
        default=1e-6,
        gt=0,
        le=1,
        description="Stop when the largest component of the mean gradient is at most this. Not for regression by solver: exact. "
        "With solver: sgd the gradient is that of standardised features, in a regression also of a standardised label.",
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.l1) || (self.task == 'regression' && self.solver == 'exact')",
            message="l1 needs task: regression and solver: exact; the other solvers know no l1",
            field_path=".l1",
            check=lambda self: (
                self.l1 is None or (self.task is LinearTask.REGRESSION and self.solver is LinearSolver.EXACT)
            ),
        ),
        Rule(
            cel="self.solver == 'sgd' || !has(self.sgd)",
            message="sgd needs solver: sgd; the exact solver has no mini-batches",
            field_path=".sgd",
            check=lambda self: self.solver is LinearSolver.SGD or self.sgd is None,
        ),
        Rule(
            cel="self.task == 'classification' || self.classWeight == 'none'",
            message="classWeight balanced needs task: classification; a regression has no classes",
            field_path=".classWeight",
            check=lambda self: self.task is LinearTask.CLASSIFICATION or self.class_weight is ClassWeight.NONE,
        ),
    )


class KMeansInit(StrEnum):
    PARALLEL = "k-means||"
    RANDOM = "random"
    CENTERS = "centers"


class KMeans(Model):
    """K-Means clustering by Lloyd's algorithm."""

    clusters: int = Field(ge=1, le=100_000, description="Number of clusters.")
    init: KMeansInit = Field(
        default=KMeansInit.PARALLEL,
        description="How the first centres are found: k-means|| (oversampling), random (rows drawn without replacement), or centers (given by centersUri).",
    )
    centers_uri: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        description="A .npy file of the first centres, shape (clusters, features), in the space after `prepare`: a path or a URL, as for data."
        " Only with init: centers.",
    )
    max_iterations: int = Field(default=300, ge=1, le=100_000, description="Lloyd iterations at most.")
    tolerance: float = Field(
        default=1e-4,
        ge=0,
        le=1,
        description="Stop when the squared shift of the centres is at most this times the mean variance of the features; 0: only when no label changes.",
    )
    restarts: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Independent runs from different first centres; the one with the lowest inertia wins.",
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        no_secret("centersUri"),
        Rule(
            cel="(self.init == 'centers') == has(self.centersUri)",
            message="centersUri is needed with init: centers and is not allowed otherwise",
            field_path=".centersUri",
            check=lambda self: (self.init is KMeansInit.CENTERS) == (self.centers_uri is not None),
        ),
        Rule(
            cel="self.init != 'centers' || self.restarts == 1",
            message="restarts must be 1 with init: centers, because every run would start from the same centres",
            field_path=".restarts",
            check=lambda self: self.init is not KMeansInit.CENTERS or self.restarts == 1,
        ),
    )


class SvmLoss(StrEnum):
    SQUARED_HINGE = "squaredHinge"
    HINGE = "hinge"


def _only_with_rbf(name: str) -> Rule:
    return Rule(
        cel=f"self.kernel == 'rbf' || !has(self.{name})",
        message=f"{name} needs kernel: rbf; the linear kernel has none",
        field_path=f".{name}",
        check=lambda self: self.kernel is SvmKernel.RBF or getattr(self, name) is None,
    )


class SvmKernel(StrEnum):
    LINEAR = "linear"
    RBF = "rbf"


class Svm(Model):
    """A support vector classifier, one against the rest above two classes."""

    kernel: SvmKernel = Field(
        default=SvmKernel.LINEAR,
        description="linear, or rbf: exp(-gamma |x - z|^2), approximated by the method of Nystroem.",
    )
    gamma: float | None = Field(
        default=None,
        gt=0,
        description="How fast the kernel falls with the squared distance. Only with kernel: rbf. "
        "Default: 1 / (features * variance of all values), scikit-learn's gamma='scale'.",
    )
    landmarks: int | None = Field(
        default=None,
        ge=1,
        le=2000,
        description="Rows of the approximation of the kernel: more are more exact, at a cost that grows with their square. "
        "Only with kernel: rbf. Default 500; with fewer rows to learn from, all of them, and then the kernel is exact.",
    )

    loss: SvmLoss = Field(
        default=SvmLoss.SQUARED_HINGE,
        description="squaredHinge: the objective of scikit-learn's LinearSVC (intercept regularised). hinge: that of SVC(kernel='linear') (intercept free).",
    )
    c: float = Field(
        default=1.0, gt=0, alias="C", description="Weight of the losses against the squared norm of the coefficients."
    )
    fit_intercept: bool = Field(default=True, description="Whether to learn an intercept.")
    class_weight: ClassWeight = Field(
        default=ClassWeight.NONE, description="balanced: weigh each class by rows / (classes * rows of the class)."
    )
    max_iterations: int = Field(default=100, ge=1, le=100_000, description="Newton steps at most, per class.")
    tolerance: float = Field(
        default=1e-6,
        gt=0,
        le=1,
        description="squaredHinge: stop at this ratio of the gradient's norm to its first value. hinge: relative duality gap.",
    )

    rules: ClassVar[tuple[Rule, ...]] = (_only_with_rbf("gamma"), _only_with_rbf("landmarks"))


class Command(Model):
    """The user's own program, with the rendezvous environment of torch.distributed."""

    argv: list[Annotated[str, Field(max_length=32_768)]] = Field(
        min_length=1, max_length=256, description="The program and its arguments; no shell is involved."
    )
    restartable: bool = Field(
        default=True,
        description="Whether the program may be started again after a failure. false: the first failure of any kind ends the job.",
    )


class Workload(Model):
    """What the job runs: exactly one member."""

    linear: Linear | None = Field(default=None, description="Linear, ridge, logistic or multinomial regression.")
    kmeans: KMeans | None = Field(default=None, description="K-Means clustering.")
    svm: Svm | None = Field(default=None, description="Support vector classification, with a linear or an RBF kernel.")
    command: Command | None = Field(default=None, description="The user's own torch.distributed program.")

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("workload", "linear", "kmeans", "svm", "command"),)

    @property
    def name(self) -> str:
        """The member that is set, for example `kmeans`."""
        return next((name for name in type(self).model_fields if getattr(self, name) is not None), "none")

    @property
    def is_supervised(self) -> bool:
        return self.linear is not None or self.svm is not None
