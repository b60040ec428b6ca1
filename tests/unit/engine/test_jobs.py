"""The store of ScaleJobs goes forward only, and finds out what is gone."""

from scalejob.engine.jobs import JobStore
from scalejob.plan.model import Unreadable
from tests.unit.engine.cluster import job_body
from tests.unit.engine.memory_server import Object


def body(version: int, name: str = "job", namespace: str = "n") -> Object:
    found = job_body()
    metadata = found["metadata"] | {"name": name, "namespace": namespace, "resourceVersion": str(version)}
    return found | {"metadata": metadata}


def make_store() -> tuple[JobStore, list[str]]:
    told: list[str] = []
    return JobStore(told.append), told


def test_older_versions_are_ignored():
    """An event that was on its way while we wrote does not undo what we know."""
    store, told = make_store()
    store.put(body(5))
    store.put(body(4))
    store.put(body(5))
    assert store.get("n/job").resource_version == "5"
    assert told == ["n/job"]


def test_versions_are_numbers():
    """10 is newer than 9."""
    store, _ = make_store()
    store.put(body(9))
    store.put(body(10))
    assert store.get("n/job").resource_version == "10"


def test_our_own_write_wakes_nobody():
    """Neither its answer nor its echo."""
    store, told = make_store()
    store.put(body(4))
    store.put_own(body(5))
    store.put(body(5))
    assert told == ["n/job"]


def test_our_own_write_is_answered_with_what_it_left():
    """Also where events have overtaken the answer, which then changes nothing."""
    store, _ = make_store()
    store.put(body(6))
    assert store.put_own(body(5)).resource_version == "5"
    assert store.get("n/job").resource_version == "6"
    store.drop("n/job", "uid-job")
    store.put_own(body(7))
    assert store.get("n/job") is None


def test_a_namesake_is_not_dropped():
    """The end of a job may be told after the beginning of the next one of that name."""
    store, told = make_store()
    store.put(body(5))
    store.drop("n/job", "uid-of-the-one-before")
    assert store.get("n/job") is not None
    assert told == ["n/job"]


def test_a_list_finds_what_is_gone():
    """Jobs that it lacks are dropped, but for those that are younger than the list, or outside it."""
    store, _ = make_store()
    for known in (body(1, "old"), body(9, "new"), body(1, "elsewhere", "m"), body(1, "kept")):
        store.put(known)
    store.put_page([body(1, "kept")])
    store.keep_only({"n/kept"}, namespace="n", version="5")
    assert {f"{job.namespace}/{job.name}" for job in store} == {"n/new", "m/elsewhere", "n/kept"}


def test_a_list_makes_all_be_looked_at():
    """So no lost event is lost for long."""
    store, told = make_store()
    store.put(body(1))
    store.put_page([body(1)])
    assert told == ["n/job", "n/job"]


def test_a_list_says_what_is_new():
    """Of jobs that are new or have changed; our own writes are none."""
    store, _ = make_store()
    assert store.put_page([body(1), body(1, "other")]) == ["n/job", "n/other"]
    assert store.put_page([body(1), body(3, "other")]) == ["n/other"]
    store.put_own(body(7))
    assert store.put_page([body(7)]) == []


def test_a_job_that_does_not_parse_is_kept_as_such():
    """One odd job does not stop the others."""
    store, _ = make_store()
    store.put(body(1) | {"spec": {"workload": 5}})
    assert isinstance(store.get("n/job"), Unreadable)
