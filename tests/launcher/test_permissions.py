"""Each line of `k8s-parsl check` about permissions, and when it is missing."""

from __future__ import annotations

from dataclasses import replace

from k8s_parsl.check.result import Status
from launcher.release import NS, made, needs, only, pod, said


def test_what_the_administrator_makes_is_asked_for_as_a_command(cluster, api):
    cluster.denied = {(verb, "persistentvolumes") for verb in ("create", "get", "patch", "delete")}
    line = only(api, needs())
    assert "you have no permission for persistentvolumes; set admin.create=false" in line
    assert line.endswith(
        "helm template pdgrun chart --namespace science -f values.yaml "
        "--set admin.create=true,namespaced.create=false | kubectl apply -f -"
    )
    # A review of a cluster-scoped object names no namespace, where the answer might differ.
    assert all(
        "namespace" not in asked
        for _, asked in cluster.reviews
        if asked["resource"] == "persistentvolumes"
    )


def test_roles_that_may_be_made_but_not_patched(cluster, api):
    cluster.denied = {("patch", "roles"), ("patch", "rolebindings")}
    assert said(api, needs()) == []
    assert "--server-side=false" in only(api, needs(), Status.NOTE)


def test_roles_that_may_not_be_made(cluster, api):
    cluster.denied = {("create", "roles"), ("create", "rolebindings")}
    line = only(api, needs())
    assert "set rbac.create=false" in line
    assert line.endswith("--show-only templates/rbac.yaml | kubectl apply -n science -f -")


def test_any_other_permission_is_asked_for_as_a_rule(cluster, api):
    cluster.denied = {("create", "jobs"), ("delete", "jobs")}
    rule = '{apiGroups: ["batch"], resources: [jobs], verbs: [create, delete]}'
    assert (
        only(api, needs()) == "you have no permission to create, delete jobs; "
        f"ask for this rule in a Role of namespace science: {rule}"
    )


def test_a_role_that_grants_more_than_the_caller_has(cluster, api):
    """No access review finds that; the dry run does."""
    cluster.refusals["Role"] = (
        403,
        'user "x" is attempting to grant RBAC permissions not currently held',
    )
    assert only(api, needs()).startswith("Role pdgrun-launcher: user")


def test_an_object_of_another_release(cluster, api):
    cluster.refusals["Job"] = (409, "already exists")
    cluster.objects["jobs", NS, "pdgrun-launcher"] = {
        "metadata": {"annotations": {"meta.helm.sh/release-name": "x"}}
    }
    assert "Job pdgrun-launcher exists already, and is not of release pdgrun" in only(api, needs())
    cluster.objects["jobs", NS, "pdgrun-launcher"]["metadata"]["annotations"][
        "meta.helm.sh/release-name"
    ] = "pdgrun"
    assert said(api, needs()) == []


def test_a_kind_that_the_cluster_does_not_know(cluster, api):
    cluster.refusals["ExternalSecret"] = (404, "the server could not find the requested resource")
    foreign = made("ExternalSecret", "x", "external-secrets.io/v1", spec={"target": {"name": "y"}})
    rendered = needs()
    more = replace(rendered, installs=[*rendered.installs, foreign])
    assert "does not know external-secrets.io/v1 ExternalSecret" in only(api, more)


def test_the_launchers_account_is_asked_for_by_name(cluster, api):
    """With rbac.create=false another creates the Role; the line names what is missing in it."""
    cluster.objects["serviceaccounts", NS, "pdgrun-launcher"] = {"metadata": {}}
    cluster.denied = {("list", "events"), ("patch", "secrets")}
    line = only(api, installed())
    assert line.startswith(
        "the launcher's ServiceAccount pdgrun-launcher has no permission to list events, patch secrets pdgrun-certif"
    )
    assert "; ask for its Role: helm template pdgrun CHART" in line
    assert {who for who, _ in cluster.reviews} == {"system:serviceaccount:science:pdgrun-launcher"}


def test_without_the_permission_for_events_there_is_only_a_remark(cluster, api):
    """The run goes on without them."""
    cluster.objects["serviceaccounts", NS, "pdgrun-launcher"] = {"metadata": {}}
    cluster.denied = {("create", "events")}
    assert said(api, installed()) == []
    line = only(api, installed(), Status.NOTE)
    assert line.startswith(
        "the launcher's ServiceAccount pdgrun-launcher has no permission to create events"
    )


def installed(**changes):
    """Return an installed release, without values and PVCs."""
    pods = {
        "launcher": pod("launcher", "pdgrun-launcher"),
        "workers": {"workers": pod("worker", "pdgrun-worker")},
    }
    return needs(installs=False, **(pods | changes))


def test_an_account_that_is_not_there(cluster, api):
    assert only(api, installed()).endswith(
        "kubectl create serviceaccount pdgrun-launcher -n science"
    )


def test_permissions_of_an_account_that_the_caller_may_not_impersonate(cluster, api):
    cluster.objects["serviceaccounts", NS, "pdgrun-launcher"] = {"metadata": {}}
    cluster.refuse("POST", 403, 'cannot impersonate resource "serviceaccounts"')
    assert "permissions of the launcher's ServiceAccount pdgrun-launcher" in only(
        api, installed(), Status.NOTE
    )


def test_in_its_own_pod_the_launcher_asks_for_itself(cluster, api):
    assert said(api, installed(launcher=None)) == []
    assert {who for who, _ in cluster.reviews} == {""}
