"""Permissions: the caller's for the objects of a release, and the launcher's for its worker pods.

The API server is asked for each kind of object and verb (access reviews), and then to check each
object (dry run): only the dry run knows admission, quotas, and a Role that grants permissions which
the caller lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k8s_parsl.check.release import Rendered
from k8s_parsl.check.result import Result, not_checked, note, ok, problem
from k8s_parsl.kube.api import METADATA_ONLY, Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl.kube.resource import Resource, of_kind, resource_of

Manifest = Mapping[str, Any]
# The verbs that the caller may not use on each resource.
Missing = Mapping[Resource, Sequence[str]]

# What Helm does to an object in its life; Helm 4 patches where Helm 3 creates.
VERBS = ("create", "get", "patch", "delete")
# Helm's record of a release: https://helm.sh/docs/topics/advanced/#storage-backends
RECORD = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sh.helm.release.v1"}}

# The one permission that a run can do without.
CREATE_EVENTS = "create events"


def permissions(api: Api, rendered: Rendered) -> Iterator[Result]:
    """Check the permissions of the caller and of the launcher's ServiceAccount.

    Raises:
        ApiError: the API server did not answer, or failed.
    """
    yield from _caller(api, rendered)
    yield from _launcher(api, rendered)


# The caller


def _caller(api: Api, rendered: Rendered) -> Iterator[Result]:
    """Ask for each kind of object and each verb, then try each object."""
    if not rendered.installs:
        return
    resources = _resources(api, rendered)
    missing = _missing_verbs(api, resources)
    yield from _lacking(rendered, missing)
    if not missing:
        kinds = len(resources)
        yield ok(
            f"you may install, upgrade and remove every kind of object of this release ({kinds})"
        )
    creatable = [
        item
        for item in rendered.installs
        if "create" not in missing.get(resource_of(item, api.namespace), ())
    ]
    refused = _refused(api, rendered, creatable)
    yield from refused
    if not refused:
        yield ok("the API server accepts all objects that you may create (dry run)")


def _resources(api: Api, rendered: Rendered) -> list[Resource]:
    """Return the resources of the objects that Helm creates, each once."""
    items = [*rendered.installs, RECORD]
    return list(dict.fromkeys(resource_of(item, api.namespace) for item in items))


def _missing_verbs(api: Api, resources: Sequence[Resource]) -> Missing:
    missing = {}
    for resource in resources:
        verbs = [verb for verb in VERBS if not api.may(verb, resource)]
        if verbs:
            missing[resource] = verbs
    return missing


def _lacking(rendered: Rendered, missing: Missing) -> Iterator[Result]:
    """Yield what to ask for: the administrator's half at once, then each kind of object."""
    administrators = [resource for resource in missing if resource.namespace != rendered.namespace]
    if administrators:
        names = sorted({_place(resource) for resource in administrators})
        yield problem(
            f"you have no permission for {', '.join(names)}; set admin.create=false, and ask an "
            f"administrator for the other half: helm template {rendered.repeated} "
            "--set admin.create=true,namespaced.create=false | kubectl apply -f -"
        )
    for resource, verbs in missing.items():
        if resource in administrators:
            continue
        if resource.plural == "roles":
            yield _role(rendered, verbs)
        # A RoleBinding comes with its Role.
        elif resource.plural != "rolebindings":
            yield _rule(resource, verbs)


def _place(resource: Resource) -> str:
    if not resource.namespace:
        return resource.plural
    return f"{resource.plural} in namespace {resource.namespace}"


def _role(rendered: Rendered, verbs: Sequence[str]) -> Result:
    if list(verbs) == ["patch"]:
        return note(
            "you have no permission to patch Roles: give Helm 4 --server-side=false for install "
            "and upgrade"
        )
    return problem(
        f"you have no permission to {', '.join(verbs)} Roles; set rbac.create=false, and ask for "
        f"the launcher's Role: {_role_command(rendered)}"
    )


def _role_command(rendered: Rendered) -> str:
    return (
        f"helm template {rendered.repeated} --set rbac.create=true "
        f"--show-only templates/rbac.yaml | kubectl apply -n {rendered.namespace} -f -"
    )


def _rule(resource: Resource, verbs: Sequence[str]) -> Result:
    words = ", ".join(verbs)
    return problem(
        f"you have no permission to {words} {resource.plural}; ask for this rule in a Role of "
        f'namespace {resource.namespace}: {{apiGroups: ["{resource.group}"], '
        f"resources: [{resource.plural}], verbs: [{words}]}}"
    )


def _refused(api: Api, rendered: Rendered, items: Sequence[Manifest]) -> list[Result]:
    """Return the problems of the objects that the API server refuses, each once."""
    results: dict[Result, None] = {}
    for item in items:
        try:
            api.dry_run(item)
        except ApiError as error:
            text = _refusal(api, rendered, item, error)
            if text:
                results[problem(text)] = None
    return list(results)


def _refusal(api: Api, rendered: Rendered, item: Manifest, error: ApiError) -> str:
    """Return what is wrong with an object that the API server refuses; empty if nothing is."""
    what = f"{item['kind']} {item['metadata']['name']}"
    if error.code == 409:
        if not _is_of_another_release(api, rendered, item):
            return ""
        return (
            f"{what} exists already, and is not of release {rendered.release}: Helm will refuse "
            "to change it"
        )
    if error.code != 404:
        return f"{what}: {error.text}"
    if item["kind"] == "RoleBinding":
        # It needs its Role, which was only tried, too.
        return ""
    if error.text.startswith("namespaces "):
        namespace = item["metadata"]["namespace"]
        return f"there is no namespace {namespace}, where this release creates objects"
    return f"{what}: the cluster does not know {item['apiVersion']} {item['kind']}: {error.text}"


def _is_of_another_release(api: Api, rendered: Rendered, item: Manifest) -> bool:
    resource = resource_of(item, api.namespace)
    found = api.find(resource, item["metadata"]["name"], accept=METADATA_ONLY)
    if not found:
        return False
    annotations = found.get("metadata", {}).get("annotations", {})
    return bool(annotations.get("meta.helm.sh/release-name") != rendered.release)


# The launcher


def launcher_permissions(release: str, certificates: str) -> list[tuple[str, str, str]]:
    """Return what the launcher does in its namespace; the chart's Role grants the same.

    Args:
        release: The release's name, and its ConfigMap's.
        certificates: The name of its Secret for workers; empty if there is none.

    Returns:
        Of each permission the verb, the resource, and the object's name (empty: all objects).
    """
    needed = [
        ("create", "pods", ""),
        ("delete", "pods", ""),
        ("list", "pods", ""),
        ("watch", "pods", ""),
        ("get", "pods/log", ""),
        ("create", "events", ""),
        ("list", "events", ""),
        ("get", "configmaps", release),
    ]
    if certificates:
        needed += [("create", "secrets", certificates), ("patch", "secrets", certificates)]
    return needed


def _launcher(api: Api, rendered: Rendered) -> Iterator[Result]:
    """Check the launcher's permissions, unless this release creates its RoleBinding.

    The API server is asked as the launcher's ServiceAccount.
    """
    if _creates_role_binding(rendered):
        return
    account = ""
    who = "this launcher"
    if rendered.launcher:
        account = rendered.launcher["spec"]["serviceAccountName"]
        who = f"the launcher's ServiceAccount {account}"
    try:
        if account and not _account_exists(api, rendered, account):
            command = f"kubectl create serviceaccount {account} -n {api.namespace}"
            yield problem(f"{who} does not exist: {command}")
            return
        missing = _launcher_lacks(api, rendered, account)
    except ApiError as error:
        command = "kubectl auth can-i --list --as system:serviceaccount:NAMESPACE:ACCOUNT"
        yield not_checked(f"permissions of {who} ({command})", error)
        return
    if CREATE_EVENTS in missing:
        missing.remove(CREATE_EVENTS)
        yield note(
            f"{who} has no permission to {CREATE_EVENTS}: kubectl describe job shows none of the"
            " run's Events"
        )
    if missing:
        yield problem(
            f"{who} has no permission to {', '.join(missing)}; ask for its Role: "
            f"{_role_command(rendered)}"
        )
    else:
        yield ok(f"{who} has all permissions that it needs")


def _creates_role_binding(rendered: Rendered) -> bool:
    for item in rendered.objects:
        if item["kind"] == "RoleBinding" and item in rendered.installs:
            return True
    return False


def _account_exists(api: Api, rendered: Rendered, account: str) -> bool:
    """Return whether a ServiceAccount exists, or comes with the release."""
    if rendered.made("ServiceAccount", account):
        return True
    return api.find(of_kind("ServiceAccount", api.namespace), account) is not None


def _launcher_lacks(api: Api, rendered: Rendered, account: str) -> list[str]:
    missing = []
    for verb, plural, name in launcher_permissions(rendered.release, rendered.certificates):
        resource = Resource("", "v1", plural, api.namespace)
        if not api.may(verb, resource, name, account=account):
            missing.append(f"{verb} {plural} {name}".rstrip())
    return missing
