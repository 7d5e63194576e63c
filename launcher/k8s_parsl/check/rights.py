"""Who may do what: the caller make the objects of a release, and its launcher make its worker pods.

The API server is asked for each kind of object and verb (access reviews), then told to try each
object (dry run): only that knows admission, quotas, and what a Role would grant that the caller
lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k8s_parsl.check.lines import Line, fine, note, unseen, wanted
from k8s_parsl.check.release import Rendered
from k8s_parsl.kube.api import METADATA_ONLY, Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl.kube.resource import Resource, of_kind, resource_of

Manifest = Mapping[str, Any]

ROLES = ("roles", "rolebindings")
# What Helm does to an object in its life; Helm 4 patches where Helm 3 creates.
VERBS = ("create", "get", "patch", "delete")
# Helm's record of a release: https://helm.sh/docs/topics/advanced/#storage-backends
RECORD = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sh.helm.release.v1"}}


def rights(api: Api, rendered: Rendered) -> Iterator[Line]:
    """What the caller and the launcher's account lack.

    Raises:
        ApiError: the API server is not itself.
    """
    yield from _may_install(api, rendered)
    yield from _launcher_may(api, rendered)


def _may_install(api: Api, rendered: Rendered) -> Iterator[Line]:
    """The caller's rights: asked for each kind of object and each verb, then tried on each object."""
    if not rendered.installs:
        return
    kinds = {resource_of(item, api.namespace): item for item in [*rendered.installs, RECORD]}
    missing = {kind: [verb for verb in VERBS if not api.may(verb, kind)] for kind in kinds}
    yield from _asked_for(rendered, {kind: verbs for kind, verbs in missing.items() if verbs})
    if not any(missing.values()):
        yield fine(
            f"you may install, upgrade and remove all kinds of object of this release ({len(kinds)})"
        )
    refused = []
    for item in rendered.installs:
        if "create" not in missing[resource_of(item, api.namespace)]:
            refused += list(_tried(api, rendered, item))
    yield from dict.fromkeys(refused)
    if not refused:
        yield fine("the API server would take all that you may make (dry run)")


def _asked_for(rendered: Rendered, missing: Mapping[Resource, Sequence[str]]) -> Iterator[Line]:
    admins = [kind for kind, verbs in missing.items() if kind.namespace != rendered.namespace]
    if admins:
        names = ", ".join(
            sorted(
                {
                    f"{kind.plural}{f' in namespace {kind.namespace}' * bool(kind.namespace)}"
                    for kind in admins
                }
            )
        )
        yield wanted(
            f"you may not make {names}; set admin.create=false, and ask an administrator for the other half: "
            f"helm template {rendered.repeated} --set admin.create=true,namespaced.create=false | kubectl apply -f -"
        )
    for kind, verbs in missing.items():
        if kind in admins:
            continue
        if kind.plural in ROLES and list(verbs) == ["patch"]:
            if kind.plural == ROLES[0]:
                yield note(
                    "you may not patch Roles: give Helm 4 --server-side=false for install and upgrade"
                )
        elif kind.plural in ROLES:
            if kind.plural == ROLES[0]:
                yield wanted(
                    f"you may not {', '.join(verbs)} Roles; set rbac.create=false, and ask for the launcher's: helm "
                    f"template {rendered.repeated} --set rbac.create=true --show-only templates/rbac.yaml | "
                    f"kubectl apply -n {rendered.namespace} -f -"
                )
        else:
            yield wanted(
                f"you may not {', '.join(verbs)} {kind.plural}; ask for a rule of a Role in namespace "
                f'{kind.namespace}: {{apiGroups: ["{kind.group}"], resources: [{kind.plural}], '
                f"verbs: [{', '.join(verbs)}]}}"
            )


def _tried(api: Api, rendered: Rendered, item: Manifest) -> Iterator[Line]:
    """What the API server says to one object: admission, quotas, and what a Role would grant that
    the caller lacks.
    """
    what = f"{item['kind']} {item['metadata']['name']}"
    try:
        api.dry_run(item)
    except ApiError as error:
        if error.code == 409:
            there = (
                api.find(
                    resource_of(item, api.namespace), item["metadata"]["name"], accept=METADATA_ONLY
                )
                or {}
            )
            annotations = there.get("metadata", {}).get("annotations", {})
            if there and annotations.get("meta.helm.sh/release-name") != rendered.release:
                yield wanted(
                    f"{what} is there already, and is not of release {rendered.release}: Helm will not take it"
                )
        elif error.code == 404 and item["kind"] == "RoleBinding":
            # Its Role is only tried out, too.
            return
        elif error.code == 404 and error.text.startswith("namespaces "):
            yield wanted(
                f"there is no namespace {item['metadata']['namespace']}, where this release makes objects"
            )
        elif error.code == 404:
            yield wanted(
                f"{what}: the cluster does not know {item['apiVersion']} {item['kind']}: {error.text}"
            )
        else:
            yield wanted(f"{what}: {error.text}")


def launcher_rights(release: str, certificates: str) -> list[tuple[str, str, str]]:
    """What the launcher does in its namespace, as (verb, resource, name); the chart's Role grants
    the same.
    """
    needed = [(verb, "pods", "") for verb in ("create", "delete", "list", "watch")]
    needed += [("get", "pods/log", ""), ("list", "events", ""), ("get", "configmaps", release)]
    return needed + [
        (verb, "secrets", certificates) for verb in ("create", "patch") if certificates
    ]


def _launcher_may(api: Api, rendered: Rendered) -> Iterator[Line]:
    """Where its Role is there already, or somebody else's to make; the API server is asked in the
    account's name.
    """
    if any(
        item["kind"] == "RoleBinding" and item in rendered.installs for item in rendered.objects
    ):
        return
    account = rendered.launcher["spec"]["serviceAccountName"] if rendered.launcher else ""
    who = f"the launcher's account {account}" if account else "this launcher"
    try:
        theirs = account and not rendered.made("ServiceAccount", account)
        if theirs and api.find(of_kind("ServiceAccount", api.namespace), account) is None:
            yield wanted(
                f"{who} is not there: kubectl create serviceaccount {account} -n {api.namespace}"
            )
            return
        missing = [
            f"{verb} {plural}{f' {name}' * bool(name)}"
            for verb, plural, name in launcher_rights(rendered.release, rendered.certificates)
            if not api.may(verb, Resource("", "v1", plural, api.namespace), name, account=account)
        ]
    except ApiError as error:
        yield unseen(
            error,
            f"rights of {who} (kubectl auth can-i --list --as system:serviceaccount:NAMESPACE:ACCOUNT)",
        )
        return
    if missing:
        yield wanted(
            f"{who} may not {', '.join(missing)}; ask for its Role: helm template {rendered.repeated} "
            f"--set rbac.create=true --show-only templates/rbac.yaml | kubectl apply -n {rendered.namespace} -f -"
        )
    else:
        yield fine(f"{who} has the rights it needs")
