"""What the operator and the users of a cluster may do, rule by rule."""

from itertools import product

import pytest

from tests.chart.types import Object, Render

# Why each is needed stands in operator.md's terms: watch jobs, write their status, own Services and Pods, tell Events.
OPERATOR = {
    ("scalejob.io", "scalejobs"): {"get", "list", "watch", "delete"},
    ("scalejob.io", "scalejobs/status"): {"patch"},
    ("", "pods"): {"create", "get", "list", "watch", "delete"},
    ("", "services"): {"create", "get"},
    ("", "events"): {"create", "patch"},
}
VIEW = {"get", "list", "watch"}
EDIT = {"create", "update", "patch", "delete", "deletecollection"}
SCOPES = [(), ("watch.namespaces={team-a,team-b}",)]


def grants(role: Object) -> dict[tuple[str, str], set[str]]:
    """(API group, resource) -> verbs."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        assert set(rule) - {"resourceNames"} == {"apiGroups", "resources", "verbs"}, "no URLs"
        for group, resource in product(rule["apiGroups"], rule["resources"]):
            found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def roles(objects: list[Object], name: str) -> list[Object]:
    return [o for o in objects if o["kind"] in ("Role", "ClusterRole") and o["metadata"]["name"] == name]


@pytest.mark.parametrize("settings", SCOPES, ids=["cluster", "namespaces"])
def test_operator_may_do_what_it_does(render: Render, settings: tuple[str, ...]):
    """The operator's rights are this list and nothing more, in a cluster and in namespaces."""
    for role in roles(render(*settings), "scalejob-operator"):
        assert grants(role) == OPERATOR


@pytest.mark.parametrize("settings", SCOPES, ids=["cluster", "namespaces"])
def test_one_lease(render: Render, settings: tuple[str, ...]):
    """The operator reads and writes the Lease of its own name in its own namespace, and no other."""
    (role,) = roles(render(*settings), "scalejob-operator-lease")
    assert (role["kind"], role["metadata"]["namespace"]) == ("Role", "system")
    assert [(set(rule["verbs"]), rule.get("resourceNames")) for rule in role["rules"]] == [
        ({"create"}, None),
        ({"get", "patch"}, ["scalejob-operator"]),
    ]


@pytest.mark.parametrize("settings", SCOPES, ids=["cluster", "namespaces"])
def test_nothing_dangerous(render: Render, settings: tuple[str, ...]):
    """No rule of the chart reaches Secrets, everything at once, other identities or the inside of Pods."""
    rendered = [o for o in render(*settings) if o["kind"] in ("Role", "ClusterRole")]
    assert rendered
    for (group, resource), verbs in (grant for role in rendered for grant in grants(role).items()):
        assert not {group, resource, *verbs} & {"*", "secrets", "impersonate", "escalate", "bind", "nodes", "pods/exec"}


def test_namespaces_need_no_cluster_role(render: Render):
    """With a list of namespaces the operator has a Role and a binding in each and in its own, and nothing in the cluster."""
    objects = render("watch.namespaces={team-a,team-b}", "rbac.aggregate=false")
    where = sorted((o["kind"], o["metadata"].get("namespace")) for o in objects if "Role" in o["kind"])
    assert where == [(kind, ns) for kind in ("Role", "RoleBinding") for ns in ("system", "team-a", "team-b")]


@pytest.mark.parametrize("settings", SCOPES, ids=["cluster", "namespaces"])
def test_bindings_name_the_service_account(render: Render, settings: tuple[str, ...]):
    """Every binding gives its role to the account under which the operator runs."""
    objects = render(*settings, "serviceAccount.name=trainer-operator")
    (pod,) = [o["spec"]["template"]["spec"] for o in objects if o["kind"] == "Deployment"]
    bindings = [o for o in objects if o["kind"].endswith("RoleBinding")]
    assert bindings
    assert pod["serviceAccountName"] == "trainer-operator"
    for binding in bindings:
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "trainer-operator", "namespace": "system"}]


@pytest.mark.parametrize(
    ("name", "verbs", "inherited_by"),
    [("scalejob-view", VIEW, {"view", "edit", "admin"}), ("scalejob-edit", EDIT, {"edit", "admin"})],
)
def test_users_inherit(render: Render, name: str, verbs: set[str], inherited_by: set[str]):
    """Who may view or edit a namespace may do so with its ScaleJobs."""
    (role,) = roles(render(), name)
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert {
        label.removeprefix(prefix) for label in role["metadata"]["labels"] if label.startswith(prefix)
    } == inherited_by
    assert grants(role)["scalejob.io", "scalejobs"] == verbs


def test_users_write_no_status(render: Render):
    """What was learned and what it cost is the operator's word alone."""
    for role in roles(render(), "scalejob-edit"):
        assert ("scalejob.io", "scalejobs/status") not in grants(role)
