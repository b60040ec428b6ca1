"""The planner against a cluster in which everything goes wrong: what must hold at every step, and that jobs end.

The rules are the faults; the invariants are in `cluster`, at the writes that could break them.
"""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scalejob.contract import Reason
from scalejob.plan.model import Refusal
from tests.unit.plan.builders import make_job, word
from tests.unit.plan.cluster import Cluster, Operator

ENDS = st.sampled_from(
    [
        {"code": 0},
        {"code": 0},
        {"code": 1},
        {"code": 1, "message": word(step=3, error="ValueError", message="bad")},
        {"code": 1, "message": word(error="RuntimeError", message="Connection reset by peer")},
        {"code": 1, "message": word(reason="RendezvousTimeout", message="rank 1 is missing")},
        {"code": 2, "message": word(reason="InvalidData", message="no column y")},
        {"code": 85},
        {"code": 94},
        {"code": 137, "reason": "OOMKilled"},
    ]
)
SPECS = st.fixed_dictionaries(
    {
        "workers": st.integers(1, 4),
        "restarts": st.fixed_dictionaries(
            {
                "failures": st.integers(0, 6),
                "disruptions": st.sampled_from(["unlimited", 0, 3]),
                "backoffSeconds": st.sampled_from([0, 1, 10]),
            }
        ),
        "deadlines": st.fixed_dictionaries(
            {},
            optional={
                "activeSeconds": st.integers(1, 500),
                "schedulingSeconds": st.integers(1, 500),
                "holdSeconds": st.integers(1, 100),
            },
        ),
        "keepPods": st.sampled_from(["None", "Failed", "All"]),
        "suspend": st.booleans(),
    }
)
PICK = st.integers(0, 7)


class Faults(RuleBasedStateMachine):
    """One job, one operator, and a world that is against them."""

    cluster: Cluster
    operator: Operator

    @initialize(spec=SPECS)
    def apply(self, spec: dict) -> None:
        self.cluster = Cluster(make_job().spec(**spec).body)
        self.operator = Operator(self.cluster)

    @rule()
    def reconcile(self) -> None:
        self.operator.reconcile()

    @rule(writes=st.integers(0, 6))
    def reconcile_and_crash(self, writes: int) -> None:
        self.operator.dies_at = self.cluster.num_writes + writes
        self.operator.reconcile()
        self.operator.dies_at = None

    @rule(reason=st.sampled_from([Reason.QUOTA_EXCEEDED, Reason.POLICY_DENIED, Reason.INVALID_SPEC]))
    def reconcile_after_a_refusal(self, reason: Reason) -> None:
        self.operator.reconcile(refusal=Refusal(reason=reason, message="no"))

    @rule()
    def all_is_well_for_a_while(self) -> None:
        """Without it, hardly any attempt would come to run."""
        for _ in range(4):
            self.operator.reconcile()
            for name in list(self.cluster.pods):
                self.cluster.start(name)
            self.operator.see_all()
        self.operator.reconcile()

    @rule()
    def see_the_job(self) -> None:
        self.operator.see_job()

    @rule(pick=PICK)
    def see_one_pod(self, pick: int) -> None:
        names = sorted(set(self.cluster.pods) | set(self.operator.seen))
        if names:
            self.operator.see_pod(names[pick % len(names)])

    @rule()
    def see_everything(self) -> None:
        self.operator.see_all()

    @rule()
    def somebody_else_writes(self) -> None:
        self.cluster.touch()

    @rule(suspend=st.booleans())
    def suspend_or_resume(self, suspend: bool) -> None:
        self.cluster.edit_spec(suspend=suspend)

    @rule(workers=st.integers(1, 4))
    def resize(self, workers: int) -> None:
        self.cluster.edit_spec(workers=workers)

    @rule(seed=st.integers(0, 3))
    def edit(self, seed: int) -> None:
        """Suspended, changed and resumed before anybody looks."""
        self.cluster.edit_spec(seed=seed)

    @rule(seconds=st.sampled_from([0.3, 1, 5, 60, 700]))
    def time_passes(self, seconds: float) -> None:
        self.cluster.advance(seconds)

    @precondition(lambda self: self.cluster.pods)
    @rule(pick=PICK)
    def start(self, pick: int) -> None:
        self.cluster.start(self._pod(pick))

    @precondition(lambda self: self.cluster.pods)
    @rule(pick=PICK, end=ENDS)
    def end(self, pick: int, end: dict) -> None:
        self.cluster.end(self._pod(pick), **end)

    @precondition(lambda self: self.cluster.pods)
    @rule(
        pick=PICK,
        what=st.sampled_from(["evict", "lose_node", "heal_node", "refuse_to_schedule", "block_start", "vanish"]),
    )
    def suffer(self, pick: int, what: str) -> None:
        getattr(self.cluster, what)(self._pod(pick))

    @precondition(lambda self: self.cluster.pods)
    @rule(pick=PICK)
    def delete_by_hand(self, pick: int) -> None:
        pod = self.cluster.pods[self._pod(pick)]
        self.cluster.delete(pod.name, pod.uid)

    @invariant()
    def the_cluster_is_sound(self) -> None:
        if hasattr(self, "cluster"):
            self.cluster.check()

    def teardown(self) -> None:
        """When the faults stop, the job ends, and then nothing is written any more."""
        if not hasattr(self, "cluster"):
            return
        self.cluster.edit_spec(suspend=True)
        for _ in range(3):
            self._calm_step()
        assert not any(pod.is_live for pod in self.cluster.pods.values()), "a suspended job has workers"
        self.cluster.edit_spec(suspend=False)
        for _ in range(30):
            self._calm_step()
            if self.cluster.job.status.phase.is_finished:
                break
        assert self.cluster.job.status.phase.is_finished, "the job does not end"
        for _ in range(3):
            self._calm_step()
        writes = self.cluster.num_writes
        self._calm_step()
        assert self.cluster.num_writes == writes, "writes in steady state"

    def _calm_step(self) -> None:
        self.operator.see_all()
        plan = self.operator.reconcile()
        self.cluster.advance(plan.requeue_after or 0)
        for name, pod in list(self.cluster.pods.items()):
            if pod.is_deleting:
                self.cluster.vanish(name)
            elif pod.phase == "Running" and self.cluster.job.status.running_time:
                self.cluster.end(name, 0)
            else:
                self.cluster.start(name)

    def _pod(self, pick: int) -> str:
        names = sorted(self.cluster.pods)
        return names[pick % len(names)]


TestFaults = Faults.TestCase
