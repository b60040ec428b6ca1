"""All fits that are measured beside a peer, by their names, and the sections that they belong to."""

from tests.bench import exactness, kmeans_cases, linear_cases, prepare_cases, svm_cases
from tests.bench.case import Case

SECTIONS: dict[str, tuple[Case, ...]] = {
    "svm": svm_cases.CASES,
    "kmeans": kmeans_cases.CASES,
    "linear": linear_cases.CASES,
    "prepare": prepare_cases.CASES,
    "exactness": exactness.CASES,
}
CASES = {case.name: case for cases in SECTIONS.values() for case in cases}
