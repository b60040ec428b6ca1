"""Election of one among several replicas, by a Lease of coordination.k8s.io.

Whoever holds the lease renews it. The others look at it, and one of them takes it when it has not changed for `Terms.duration` on
that replica's own clock: clocks need not agree. A holder that could not renew for `Terms.deadline`, which is less, holds it no
longer: `is_leading` is false from then on, whatever the process was doing meanwhile, and the process should end. Every write to
the Lease has the version that was read as its precondition, so of two that take it at once one fails.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from .backoff import backoff
from .client import Client, Object, Resource
from .clock import steady_seconds
from .errors import ApiError, Conflict, NotFound

logger = logging.getLogger(__name__)

LEASES = Resource("coordination.k8s.io/v1", "leases")


class LeaseLost(RuntimeError):
    """Another replica leads, or may soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Seconds. Shorter than the 15, 10 and 2 of Kubernetes' own components, with which another may begin 17 s after a crash."""

    duration: float = 10.0  # without a renewal: then others may take the lease
    deadline: float = 7.0  # without a renewal: then the holder stops
    retry: float = 1.5  # between two renewals, or two looks


class Elector:
    """`run` stands for election and then renews, until cancelled; `acquired` is set once the lease is held."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        terms: Terms | None = None,
        clock: Callable[[], float] = steady_seconds,
    ) -> None:
        """`client`: of its own, since a renewal must not wait behind other requests. `identity`: unlike that of any other."""
        self._client, self._namespace, self._name, self._identity = client, namespace, name, identity
        self._terms, self._clock = terms or Terms(), clock
        self.acquired = asyncio.Event()
        self._renewed: float | None = None  # when the last renewal that succeeded was sent
        self._lease: Object | None = None  # as it was last read or written
        self._changed = clock()  # when another version of it was first seen

    @property
    def is_leading(self) -> bool:
        return self._renewed is not None and self._clock() - self._renewed < self._terms.deadline

    async def run(self) -> None:
        """Raises LeaseLost if the lease was held and is no longer."""
        await self._acquire()
        logger.info("leading", extra={"lease": f"{self._namespace}/{self._name}", "identity": self._identity})
        while True:
            await asyncio.sleep(self._terms.retry)
            await self._succeeds()
            if not self.is_leading:
                raise LeaseLost(
                    f"the lease {self._namespace}/{self._name} was not renewed for {self._terms.deadline} s"
                )

    async def _acquire(self) -> None:
        while True:
            if await self._succeeds():
                return self.acquired.set()
            await asyncio.sleep(backoff(1, self._terms.retry, self._terms.retry))

    async def release(self) -> None:
        """Lets another replica begin at once. Nothing must be written after that."""
        if not self.is_leading:
            return
        self._renewed = None
        try:
            async with asyncio.timeout(self._terms.retry):
                # Read again: a renewal may have been cut off between its write and the answer.
                self._lease = await self._client.get(LEASES, self._namespace, self._name)
                if self._lease["spec"].get("holderIdentity") == self._identity:
                    await self._write({**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1})
        except (ApiError, TimeoutError) as error:
            logger.warning("lease not released", extra={"error": str(error)})

    async def _succeeds(self) -> bool:
        """Whether the lease was taken or renewed. A failure is a line in the log: the next time may succeed."""
        sent = self._clock()
        try:
            async with asyncio.timeout(self._terms.deadline):
                is_mine = await self._try()
        except Conflict as error:
            # Of two that see a free lease one is first. Who holds it has no rival, so that is worth a warning.
            level = logging.WARNING if self.is_leading else logging.INFO
            logger.log(level, "another replica has written the lease", extra={"error": str(error)})
            return False
        except (ApiError, TimeoutError) as error:
            extra = {"reason": type(error).__name__, "error": str(error)}
            logger.warning("lease neither taken nor renewed", extra=extra)
            return False
        if is_mine:
            self._renewed = sent
        return is_mine

    async def _try(self) -> bool:
        """One look, and one write if the lease is ours or free."""
        try:
            found = await self._client.get(LEASES, self._namespace, self._name)
        except NotFound:
            await self._create()
            return True
        if self._lease is None or _version(found) != _version(self._lease):
            self._lease, self._changed = found, self._clock()
        spec = found.get("spec") or {}
        holder = spec.get("holderIdentity")
        if holder == self._identity and self.acquired.is_set() and not self.is_leading:
            return False  # it may be ours still, but this process has said that it stops
        if holder and holder != self._identity and self._clock() - self._changed < _duration(spec, self._terms):
            return False
        await self._write(self._spec(spec, is_new=holder != self._identity))
        return True

    def _spec(self, before: Object, *, is_new: bool) -> Object:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        taken = {"acquireTime": now, "leaseTransitions": int(before.get("leaseTransitions") or 0) + 1} if is_new else {}
        duration = int(self._terms.duration)
        return {
            **before,
            **taken,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": duration,
            "renewTime": now,
        }

    async def _create(self) -> None:
        body = {
            "apiVersion": LEASES.group_version,
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {**self._spec({}, is_new=True), "leaseTransitions": 0},
        }
        self._lease = await self._client.create(LEASES, self._namespace, body)

    async def _write(self, spec: Object) -> None:
        assert self._lease is not None
        body = {"metadata": {"resourceVersion": _version(self._lease)}, "spec": spec}
        self._lease = await self._client.merge_patch(LEASES, self._namespace, self._name, body)


def _version(lease: Object) -> str:
    return str(lease["metadata"]["resourceVersion"])


def _duration(spec: Object, terms: Terms) -> float:
    """As the holder has promised it; one who released the lease has promised a second."""
    return float(spec.get("leaseDurationSeconds") or terms.duration)
