"""What a reflector has seen, and who hears of it."""

from scalejob.kube.store import Entry, Store


def entry(uid: str, value: str = "v", *, owner: str = "o", namespace: str = "n") -> Entry[str]:
    return Entry(uid=uid, namespace=namespace, owner_uid=owner, owner_key=f"{namespace}/{owner}", value=value)


def test_found_by_owner():
    """Objects are found by the uid of their owner, and by no other's."""
    store: Store[str] = Store(lambda before, after: None)
    store.put(entry("1", "a"))
    store.put(entry("2", "b", owner="p"))
    assert (store.owned_by("o"), store.owned_by("p"), store.owned_by("q")) == (("a",), ("b",), ())


def test_found_beside_a_namesake():
    """An owner that was made anew under its name has another uid; what the former one has left is found until it is gone."""
    store: Store[str] = Store(lambda before, after: None)
    for uid, owner in (("1", "old"), ("2", "new")):
        store.put(Entry(uid=uid, namespace="n", owner_uid=owner, owner_key="n/o", value=uid))
    assert (store.of_namesakes("n/o", "new"), store.of_namesakes("n/o", "old")) == (("1",), ("2",))
    store.drop("1")
    assert (store.of_namesakes("n/o", "new"), store.of_namesakes("n/p", "new")) == ((), ())


def test_an_object_that_changes_hands_leaves_its_former_owner():
    """Both owners hear of it."""
    told: list[str] = []
    store: Store[str] = Store(lambda before, after: told.append((after or before).owner_key))
    store.put(entry("1", "a"))
    store.put(entry("1", "a", owner="p"))
    assert (store.owned_by("o"), store.owned_by("p")) == ((), ("a",))
    assert told == ["n/o", "n/o", "n/p"]


def test_only_changes_are_told():
    """The listener hears of what is new, other or gone, not of what is the same again."""
    told: list[tuple[str | None, str | None]] = []
    store: Store[str] = Store(lambda before, after: told.append((before and before.value, after and after.value)))
    for value in ("a", "a", "b"):
        store.put(entry("1", value))
    store.drop("1")
    store.drop("1")
    assert told == [(None, "a"), ("a", "b"), ("b", None)]


def test_a_list_replaces_its_namespace_only():
    """What a list of one namespace lacks is gone there; other namespaces are not its matter."""
    store: Store[str] = Store(lambda before, after: None)
    store.put(entry("1", "a"))
    store.put(entry("2", "b"))
    store.put(entry("3", "c", owner="p", namespace="m"))
    store.replace([entry("2", "b")], namespace="n")
    assert (store.owned_by("o"), store.owned_by("p")) == (("b",), ("c",))
    store.replace([], namespace=None)
    assert len(store) == 0
