"""`spec.data`, `spec.prepare`, `spec.validation`, `spec.output`: where rows come from, what is done to them, where the model goes."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from .base import Model, Rule, exactly_one, no_secret, not_of_the_web
from .pod import Quantity, quantity

Uri = Annotated[str, Field(min_length=1, max_length=2048)]
Column = Annotated[str, Field(min_length=1, max_length=256)]
Rows = Annotated[int, Field(ge=0, le=1_000_000_000_000)]
Features = Annotated[int, Field(ge=1, le=1_000_000)]


class Blobs(Model):
    """Gaussian clusters around random centres; the label is the cluster."""

    rows: Rows = Field(description="Number of rows.")
    features: Features = Field(description="Number of features.")
    centers: int = Field(default=3, ge=1, le=100_000, description="Number of clusters.")
    cluster_std: float = Field(default=1.0, ge=0, description="Standard deviation of a cluster in each direction.")


class ClassificationData(Model):
    """Classes that are linearly separable up to noise, in the manner of scikit-learn's make_classification."""

    rows: Rows = Field(description="Number of rows.")
    features: Features = Field(description="Number of features.")
    informative: int | None = Field(
        default=None, ge=1, description="Features that carry the class; default: all that are not redundant."
    )
    redundant: int = Field(
        default=0, ge=0, description="Features that are linear combinations of the informative ones."
    )
    classes: int = Field(default=2, ge=1, le=10_000, description="Number of classes.")
    class_sep: float = Field(
        default=1.0, ge=0, description="Distance between classes in standard deviations of the noise."
    )
    flip: float = Field(default=0.01, ge=0, le=1, description="Share of rows whose class is drawn at random.")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="(has(self.informative) ? self.informative : 1) + self.redundant <= self.features",
            message="informative + redundant must not exceed features (with at least one informative feature)",
            field_path=".redundant",
            check=lambda self: (1 if self.informative is None else self.informative) + self.redundant <= self.features,
        ),
    )


class RegressionData(Model):
    """A linear function of Gaussian features plus Gaussian noise."""

    rows: Rows = Field(description="Number of rows.")
    features: Features = Field(description="Number of features.")
    informative: int | None = Field(
        default=None, ge=0, description="Features with a coefficient other than zero; default: all."
    )
    noise: float = Field(default=1.0, ge=0, description="Standard deviation of the noise.")
    bias: float = Field(default=0.0, description="The intercept.")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.informative) || self.informative <= self.features",
            message="informative must not exceed features",
            field_path=".informative",
            check=lambda self: self.informative is None or self.informative <= self.features,
        ),
    )


class Synthetic(Model):
    """Generated rows, the same for any number of workers: exactly one member."""

    blobs: Blobs | None = Field(default=None, description="Gaussian clusters.")
    classification: ClassificationData | None = Field(default=None, description="Noisy linearly separable classes.")
    regression: RegressionData | None = Field(default=None, description="A noisy linear function.")

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("kind of synthetic data", "blobs", "classification", "regression"),
    )


class FileFormat(StrEnum):
    PARQUET = "parquet"
    CSV = "csv"
    ARROW = "arrow"
    NPY = "npy"
    LIBSVM = "libsvm"


class Files(Model):
    """A table in one or more files, on a mounted volume, in an object store or on a web server."""

    uri: Uri = Field(
        description="A path, or a URL: file, s3, gs, https or another that fsspec has a driver for; credentials come from the environment, so set"
        " pod.envFrom. *, ? and [..] match file names, ** folders. A folder means all files of the format in it and in its folders key=value."
        " Each key=value below the folder, or from the first pattern on, is a column of that name: a number if all its values are, else text;"
        " a column of the same name in the files is used instead."
    )
    format: FileFormat | None = Field(
        default=None,
        description="parquet, csv, arrow (IPC files and streams: .arrow, .arrows, .feather, .ipc), npy (.npy and .npz) or libsvm"
        " (.libsvm, .svmlight, .svm: the label is called `label`, features by their numbers); default: by the ending of the name.",
    )
    label: Column | None = Field(
        default=None, description="The column to learn. Needed by linear and svm; kept out of the features."
    )
    features: list[Column] | None = Field(
        default=None,
        min_length=1,
        max_length=10_000,
        description="The columns to learn from, in this order; default: all but label and weight.",
    )
    weight: Column | None = Field(
        default=None, description="A column of sample weights, none of them negative; kept out of the features."
    )

    rules: ClassVar[tuple[Rule, ...]] = (no_secret("uri"),)


class CacheMode(StrEnum):
    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Cache(Model):
    """Where each process keeps its rows between passes over them. The model is the same, whichever it is."""

    mode: CacheMode = Field(
        default=CacheMode.AUTO,
        description="always: in a file on a local disk, from which they are read in each pass; never: in memory;"
        " auto: in a file if they would take more than half of the memory that the process may use.",
    )
    path: Uri | None = Field(
        default=None,
        description="The folder of that file; default: the folder for temporary files, in a Pod /tmp, which counts as ephemeral storage.",
    )
    size_limit: Quantity | None = Field(
        default=None,
        description="At most this much is written there by each worker, for example 50Gi; default: what is free.",
    )

    @property
    def size_limit_bytes(self) -> int | None:
        return None if self.size_limit is None else int(quantity(self.size_limit))


class Data(Model):
    """Where the rows come from, exactly one of synthetic and files, and where they are kept."""

    synthetic: Synthetic | None = Field(default=None, description="Generated rows.")
    files: Files | None = Field(default=None, description="Rows read from files.")

    cache: Cache = Field(default=Cache(), description="Where the rows are kept between passes over them.")

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("source of data", "synthetic", "files"),)


class Missing(StrEnum):
    ERROR = "error"
    DROP = "drop"
    MEAN = "mean"
    MEDIAN = "median"


class Scale(StrEnum):
    NONE = "none"
    STANDARD = "standard"


class Pca(Model):
    """Projection on the principal components."""

    components: int = Field(ge=1, le=100_000, description="Number of components; at most the number of features.")


class Prepare(Model):
    """What is done to the features before the fit. Learned on the training rows only and saved with the model."""

    missing: Missing = Field(
        default=Missing.ERROR,
        description="What to do with NaN and null: error; drop the row, also if only its label is missing; or put in the mean or median of the"
        " feature, while a missing label stays an error. Infinite values, and those beyond 1e75, are errors.",
    )
    scale: Scale = Field(
        default=Scale.NONE,
        description="standard: subtract the mean and divide by the standard deviation of each feature.",
    )
    pca: Pca | None = Field(default=None, description="Project on principal components, after scaling.")


class Validation(Model):
    """Rows held back from the fit, on which the metrics are computed."""

    fraction: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of the rows, drawn by a hash of the row's number: the same rows for any number of workers.",
    )


class Output(Model):
    """Where the model goes."""

    uri: Uri = Field(
        description="A folder on a mounted volume or in an object store (s3, gs and others, as for data);"
        " model.safetensors, model.json and _SUCCESS are written there."
    )

    rules: ClassVar[tuple[Rule, ...]] = (no_secret("uri"), not_of_the_web("uri"))


class Checkpoint(Model):
    """The state of a fit, saved while it runs: a new attempt goes on from there, on any number of workers, to the same model."""

    every_seconds: int = Field(
        default=60,
        ge=1,
        le=86_400,
        description="Seconds between two saves; more where saving would take more than a twentieth of the time.",
    )
    uri: Uri | None = Field(
        default=None,
        description="A folder of this job alone, on a volume that outlives its Pods or in an object store; default: output.uri."
        " Empty after the end.",
    )

    rules: ClassVar[tuple[Rule, ...]] = (no_secret("uri"), not_of_the_web("uri"))
