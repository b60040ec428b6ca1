"""The conditions of a job, in the form of KEP-1623. `Reconciling` and `Stalled` are those that kstatus looks at."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from scalejob.api.v1alpha1 import ConditionStatus, Status
from scalejob.contract import Condition, Phase, Reason

from .deadlines import scheduler_text, unscheduled
from .situation import REFUSALS, Situation
from .times import to_text
from .view import View

_BLOCKS = REFUSALS | {Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED}
_ENDS = (Condition.COMPLETE, Condition.FAILED, Condition.FINISHED)


Fact = tuple[bool, str, str]  # whether it holds, reason, message


def build_conditions(view: View, status: Status, found: Situation) -> list[ConditionStatus]:
    """All conditions, always in the same order."""
    facts = {Condition.SCHEDULED: _scheduled(view, status, found)} | facts_of(found)
    return stamp(facts, status.conditions, view.now, view.job.generation)


def facts_of(found: Situation) -> dict[Condition, Fact]:
    """The conditions that follow from the phase and its reason."""
    holds = {
        Condition.RUNNING: found.phase is Phase.RUNNING,
        Condition.SUSPENDED: found.phase is Phase.SUSPENDED,
        Condition.COMPLETE: found.phase is Phase.SUCCEEDED,
        Condition.FAILED: found.phase is Phase.FAILED,
        Condition.FINISHED: found.phase.is_finished,
        Condition.RECONCILING: found.phase in (Phase.PENDING, Phase.STARTING, Phase.RESTARTING),
        Condition.STALLED: found.phase is Phase.FAILED or found.reason in _BLOCKS,
    }
    return {name: _fact(name, is_true, found) for name, is_true in holds.items()}


def _fact(name: Condition, is_true: bool, found: Situation) -> Fact:
    if is_true:
        return True, found.reason, found.message
    if name in _ENDS and not found.phase.is_finished:
        return False, Reason.NOT_FINISHED, ""
    return False, found.reason if name is Condition.RUNNING else Reason.AS_EXPECTED, ""


def _scheduled(view: View, status: Status, found: Situation) -> Fact:
    """Whether every worker has a node. After the end it stays as it was: the Pods may be gone."""
    before = next((c for c in status.conditions if c.type is Condition.SCHEDULED), None)
    if found.phase.is_finished and before is not None:
        return before.status == "True", before.reason, before.message
    if found.phase is Phase.SUSPENDED:
        return False, Reason.SUSPENDED, ""
    if not unscheduled(view, status):
        return True, Reason.AS_EXPECTED, ""
    text = scheduler_text(view, status)
    return (False, Reason.UNSCHEDULABLE, text) if text else (False, found.reason, "")


def stamp(
    facts: Mapping[Condition, Fact], before: Sequence[ConditionStatus], now: datetime, generation: int
) -> list[ConditionStatus]:
    """`last_transition_time` moves only when a condition turns, not when its reason or message does."""
    stored = {condition.type: condition for condition in before}
    return [_condition(name, fact, stored.get(name), now, generation) for name, fact in facts.items()]


def _condition(
    name: Condition, fact: Fact, before: ConditionStatus | None, now: datetime, generation: int
) -> ConditionStatus:
    is_true, reason, message = fact
    value: Literal["True", "False"] = "True" if is_true else "False"
    turned = to_text(now) if before is None or before.status != value else before.last_transition_time
    return ConditionStatus(
        type=name,
        status=value,
        reason=reason,
        message=message,
        last_transition_time=turned,
        observed_generation=generation,
    )
