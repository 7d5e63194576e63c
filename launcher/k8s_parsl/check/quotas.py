"""Whether the ResourceQuotas of a namespace have room for all pods and PVCs of a release.

`capacity` does the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k8s_parsl.check import capacity
from k8s_parsl.check.release import Pod, Rendered
from k8s_parsl.check.result import Result, not_checked, note, ok, problem
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl.kube.resource import of_kind

Manifest = Mapping[str, Any]


def quotas(api: Api, rendered: Rendered, pods: Sequence[Pod]) -> Iterator[Result]:
    """Compare what all pods and PVCs need at once with what each quota has left.

    Args:
        api: The API server's answers.
        rendered: The release.
        pods: Its pods, with what admission adds to them.
    """
    try:
        found = api.list_objects(of_kind("ResourceQuota", api.namespace))
    except ApiError as error:
        yield not_checked("quotas", error)
        return
    pvcs = [item for item in rendered.installs if item["kind"] == "PersistentVolumeClaim"]
    needed = capacity.demand((pod.manifest, pod.most) for pod in pods)
    needed |= capacity.pvc_demand(pvcs)
    for quota in found:
        yield from _quota(quota, needed)


def _quota(quota: Manifest, needed: capacity.Amounts) -> Iterator[Result]:
    name = quota["metadata"]["name"]
    if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
        yield note(f"quota {name} has scopes and was not checked")
        return
    shortages = list(capacity.shortages(quota, needed))
    for shortage in shortages:
        yield _shortage(name, shortage)
    if not shortages:
        yield ok(f"quota {name} has room for the launcher and maxBlocks of all executors")


def _shortage(quota: str, shortage: capacity.Shortage) -> Result:
    """Return a problem if the quota is too small; a remark if only other pods use it up."""
    name = shortage.name
    allowed = capacity.written(name, shortage.allowed)
    used = capacity.written(name, shortage.used)
    needed = capacity.written(name, shortage.needed)
    enough = capacity.written(name, shortage.needed + shortage.used)
    text = (
        f"quota {quota} allows {name} {allowed}, of which {used} is in use; launcher and maxBlocks "
        f"of all executors need {needed}: lower maxBlocks or their resources, or ask for "
        f"{name}: {enough}"
    )
    if shortage.needed > shortage.allowed:
        return problem(text)
    return note(text)
