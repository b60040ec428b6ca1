"""Which source a spec asks for."""

from scalejob.api.v1alpha1 import Spec
from scaletrain.comm import Comm
from scaletrain.errors import InvalidSpec

from .synthetic import SyntheticSource
from .table import LabelKind, Source


def open_source(comm: Comm, spec: Spec, label_kind: LabelKind, threads: int) -> Source:
    """The source of `spec.data`. All ranks call it together."""
    assert spec.data is not None
    if spec.data.synthetic is not None:
        return _synthetic(spec, label_kind, threads)
    from .files import open_files  # noqa: PLC0415 - pyarrow takes half a second to import

    assert spec.data.files is not None
    return open_files(comm, spec.data.files, label_kind, threads)


def _synthetic(spec: Spec, label_kind: LabelKind, threads: int) -> Source:
    assert spec.data is not None
    assert spec.data.synthetic is not None
    if spec.data.synthetic.regression is not None and label_kind is LabelKind.CLASS:
        raise InvalidSpec(
            "data.synthetic.regression has numbers as labels, but the workload learns classes: use blobs or classification"
        )
    return SyntheticSource.of(spec.data.synthetic, spec.seed, label_kind, threads)
