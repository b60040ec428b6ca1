"""What a reflector has seen: trimmed objects by uid, and by the uid of their controlling owner."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Generic[T]):
    """One object, trimmed to `value`."""

    uid: str
    namespace: str
    owner_uid: str
    owner_key: str  # namespace/name of the owner: what a work queue holds
    value: T


Listener = Callable[[Entry[T] | None, Entry[T] | None], None]  # before, after; None: there is none


class Store(Generic[T]):
    """Look-up by owner in O(children). The listener hears of each change after it is in the store."""

    def __init__(self, listener: Listener[T]) -> None:
        self._listener = listener
        self._by_uid: dict[str, Entry[T]] = {}
        self._by_owner: defaultdict[str, dict[str, Entry[T]]] = defaultdict(dict)
        self._owners: defaultdict[str, set[str]] = defaultdict(set)  # by key: of one name, one after the other

    def __len__(self) -> int:
        return len(self._by_uid)

    def owned_by(self, owner_uid: str) -> tuple[T, ...]:
        """All objects of one owner."""
        return tuple(entry.value for entry in self._by_owner.get(owner_uid, {}).values())

    def of_namesakes(self, owner_key: str, owner_uid: str) -> tuple[T, ...]:
        """All objects of other owners that have, or had, the name of this one."""
        others = self._owners.get(owner_key, set()) - {owner_uid}
        return tuple(value for uid in others for value in self.owned_by(uid))

    def num_owned_by(self, owner_uid: str) -> int:
        """How many they are."""
        return len(self._by_owner.get(owner_uid, ()))

    def put(self, entry: Entry[T]) -> None:
        """Add or replace one object. One that has changed hands is gone for its former owner."""
        before = self._by_uid.get(entry.uid)
        if before == entry:
            return
        if before and before.owner_uid != entry.owner_uid:
            self.drop(entry.uid)
            before = None
        self._by_uid[entry.uid] = entry
        self._by_owner[entry.owner_uid][entry.uid] = entry
        self._owners[entry.owner_key].add(entry.owner_uid)
        self._listener(before, entry)

    def drop(self, uid: str) -> None:
        """Forget one object, if it is there."""
        entry = self._by_uid.pop(uid, None)
        if entry is None:
            return
        siblings = self._by_owner[entry.owner_uid]
        del siblings[uid]
        if not siblings:
            del self._by_owner[entry.owner_uid]
            self._forget_owner(entry)
        self._listener(entry, None)

    def _forget_owner(self, entry: Entry[T]) -> None:
        owners = self._owners[entry.owner_key]
        owners.discard(entry.owner_uid)
        if not owners:
            del self._owners[entry.owner_key]

    def replace(self, entries: Iterable[Entry[T]], *, namespace: str | None) -> None:
        """Take over a complete list of one namespace (None: of all).

        Objects that were deleted while no watch ran are in no event: they are those the list lacks.
        """
        fresh = {entry.uid: entry for entry in entries}
        in_scope = [e.uid for e in self._by_uid.values() if namespace is None or e.namespace == namespace]
        for uid in in_scope:
            if uid not in fresh:
                self.drop(uid)
        for entry in fresh.values():
            self.put(entry)
