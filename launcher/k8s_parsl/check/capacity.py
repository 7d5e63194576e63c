"""Whether pods fit: a namespace's quota, and the nodes there are. Arithmetic on what the API server
says, no calls.

https://kubernetes.io/docs/concepts/policy/resource-quotas/
https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from k8s_parsl.kube.quantity import quantity

Manifest = Mapping[str, Any]
Amounts = dict[str, Decimal]

BINARY = {"Gi": 1024**3, "Mi": 1024**2, "Ki": 1024}


def needs(pod: Manifest, kind: str) -> Amounts:
    """What a pod takes of each resource, by its ``requests`` or ``limits``.

    Containers run together, and with them the init containers that are sidecars; the others run one by one before.
    https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
    """
    spec = pod["spec"]
    running: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers", []):
        amounts = _amounts(container, kind)
        if container.get("restartPolicy") == "Always":
            running = _sum(running, amounts)
        else:
            peak = _most(peak, _sum(running, amounts))
    for container in spec["containers"]:
        running = _sum(running, _amounts(container, kind))
    overhead = {name: quantity(amount) for name, amount in spec.get("overhead", {}).items()}
    return _sum(_most(peak, running), overhead)


def _amounts(container: Manifest, kind: str) -> Amounts:
    given = container.get("resources", {})
    amounts = (
        {**given.get("limits", {}), **given.get("requests", {})}
        if kind == "requests"
        else given.get(kind, {})
    )
    return {name: quantity(amount) for name, amount in amounts.items()}


def _sum(one: Amounts, other: Amounts, times: int = 1) -> Amounts:
    return {
        name: one.get(name, Decimal()) + times * other.get(name, Decimal())
        for name in one.keys() | other.keys()
    }


def _most(one: Amounts, other: Amounts) -> Amounts:
    return {
        name: max(one.get(name, Decimal()), other.get(name, Decimal()))
        for name in one.keys() | other.keys()
    }


def demand(pods: Iterable[tuple[Manifest, int]]) -> Amounts:
    """What so many pods of each kind take, by the names that a quota has for it."""
    total: Amounts = {}
    for pod, times in pods:
        requests, limits = needs(pod, "requests"), needs(pod, "limits")
        named = {f"requests.{name}": amount for name, amount in requests.items()}
        named |= {
            name: amount
            for name, amount in requests.items()
            if name in ("cpu", "memory", "ephemeral-storage")
        }
        named |= {f"limits.{name}": amount for name, amount in limits.items()}
        total = _sum(total, named | {"pods": Decimal(1), "count/pods": Decimal(1)}, times)
    return total


def claims(items: Iterable[Manifest]) -> Amounts:
    """What claims take, by the names that a quota has for it."""
    sizes = [quantity(item["spec"]["resources"]["requests"]["storage"]) for item in items]
    return {
        "persistentvolumeclaims": Decimal(len(sizes)),
        "requests.storage": sum(sizes, Decimal()),
    }


def over_quota(quota: Manifest, wanted: Amounts) -> Iterator[tuple[str, Decimal, Decimal, Decimal]]:
    """What of it is more than a quota has left: its name, what is wanted, what the quota allows,
    what is in use.
    """
    hard = quota.get("status", {}).get("hard") or quota["spec"].get("hard", {})
    used = quota.get("status", {}).get("used", {})
    for name, allowed in hard.items():
        most, taken = quantity(allowed), quantity(used.get(name, "0"))
        if wanted.get(name, Decimal()) > most - taken:
            yield name, wanted[name], most, taken


def amount(name: str, value: Decimal) -> str:
    """A number as one would write it in a quota."""
    if "memory" in name or "storage" in name:
        for unit, size in BINARY.items():
            if value and value % size == 0:
                return f"{value / size:f}{unit}"
    return f"{value.normalize():f}"


def misfit(pod: Manifest, node: Manifest) -> str:
    """Why a node cannot take a pod even when it is empty; nothing where it can."""
    spec, labels = pod["spec"], node["metadata"].get("labels", {})
    for key, value in spec.get("nodeSelector", {}).items():
        if labels.get(key) != value:
            return f"has no label {key}={value} (nodeSelector)"
    affinity = (
        spec.get("affinity", {})
        .get("nodeAffinity", {})
        .get("requiredDuringSchedulingIgnoredDuringExecution")
    )
    if affinity and not any(_matches(term, node) for term in affinity["nodeSelectorTerms"]):
        return "does not match the required nodeAffinity"
    for taint in node["spec"].get("taints", []):
        if taint["effect"] != "PreferNoSchedule" and not _tolerated(
            taint, spec.get("tolerations", [])
        ):
            return f"has taint {taint['key']}={taint.get('value', '')}:{taint['effect']}, which is not tolerated"
    has = node.get("status", {}).get("allocatable", {})
    for name, wanted in needs(pod, "requests").items():
        if wanted > quantity(has.get(name, "0")):
            return f"has {has.get(name, 'no')} {name}, less than {amount(name, wanted)}"
    return ""


def misfits(pod: Manifest, nodes: Sequence[Manifest]) -> str:
    """Why none of the nodes can take a pod, each reason with how many nodes have it; nothing where
    one can.
    """
    reasons = Counter(misfit(pod, node) for node in nodes)
    if not reasons.total():
        return "there is no node"
    return (
        ""
        if reasons[""]
        else "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
    )


def _matches(term: Manifest, node: Manifest) -> bool:
    labels = node["metadata"].get("labels", {})
    fields = {"metadata.name": node["metadata"]["name"]}
    wanted = [(labels, expression) for expression in term.get("matchExpressions", [])]
    wanted += [(fields, expression) for expression in term.get("matchFields", [])]
    # A term without any expression matches no node.
    return bool(wanted) and all(_holds(values, expression) for values, expression in wanted)


def _holds(labels: Mapping[str, str], expression: Manifest) -> bool:
    key, values = expression["key"], expression.get("values", [])
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case operator:
            try:
                here, there = int(labels[key]), int(values[0])
            except (KeyError, ValueError, IndexError):
                return False
            return here > there if operator == "Gt" else here < there


def _tolerated(taint: Manifest, tolerations: Iterable[Manifest]) -> bool:
    return any(
        toleration.get("effect", "") in ("", taint["effect"])
        and (
            (
                toleration.get("operator", "Equal") == "Exists"
                and toleration.get("key", "") in ("", taint["key"])
            )
            or (
                toleration.get("operator", "Equal") == "Equal"
                and toleration.get("key") == taint["key"]
                and toleration.get("value", "") == taint.get("value", "")
            )
        )
        for toleration in tolerations
    )
