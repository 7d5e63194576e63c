"""Whether pods fit into the quotas of a namespace and onto the nodes of a cluster.

Arithmetic on what the API server says, no requests.

https://kubernetes.io/docs/concepts/policy/resource-quotas/
https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from k8s_parsl.config.quantity import quantity

Manifest = Mapping[str, Any]
# Of each resource, by its name.
Amounts = dict[str, Decimal]

ZERO = Decimal()
BINARY = {"Gi": 1024**3, "Mi": 1024**2, "Ki": 1024}
# Requests that a quota may also name without `requests.`.
UNPREFIXED = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True)
class Shortage:
    """A resource of which a quota has not enough left."""

    name: str
    needed: Decimal
    allowed: Decimal
    used: Decimal


# What pods and PVCs need


def needs(pod: Manifest, section: str) -> Amounts:
    """Return how much a pod needs of each resource.

    Containers run together, and sidecars with them; the other init containers run before, one at a
    time.
    https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers

    Args:
        pod: Its manifest.
        section: ``requests`` or ``limits``.
    """
    spec = pod["spec"]
    running: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers", []):
        amounts = _container_needs(container, section)
        if container.get("restartPolicy") == "Always":
            running = _sum(running, amounts)
        else:
            peak = _largest(peak, _sum(running, amounts))
    for container in spec["containers"]:
        running = _sum(running, _container_needs(container, section))
    return _sum(_largest(peak, running), _amounts(spec.get("overhead", {})))


def _container_needs(container: Manifest, section: str) -> Amounts:
    resources = container.get("resources", {})
    limits = resources.get("limits", {})
    if section == "limits":
        return _amounts(limits)
    # A limit without a request is the request, too.
    return _amounts({**limits, **resources.get("requests", {})})


def _amounts(quantities: Mapping[str, Any]) -> Amounts:
    return {name: quantity(text) for name, text in quantities.items()}


def _sum(one: Amounts, other: Amounts, times: int = 1) -> Amounts:
    total = dict(one)
    for name, value in other.items():
        total[name] = total.get(name, ZERO) + times * value
    return total


def _largest(one: Amounts, other: Amounts) -> Amounts:
    largest = dict(one)
    for name, value in other.items():
        largest[name] = max(largest.get(name, ZERO), value)
    return largest


def demand(pods: Iterable[tuple[Manifest, int]]) -> Amounts:
    """Return what pods need, by the names that a quota gives it.

    Args:
        pods: Each manifest, and how many of these pods there will be.
    """
    total: Amounts = {}
    for pod, count in pods:
        total = _sum(total, _quota_amounts(pod), times=count)
    return total


def _quota_amounts(pod: Manifest) -> Amounts:
    amounts: Amounts = {"pods": Decimal(1), "count/pods": Decimal(1)}
    for name, value in needs(pod, "requests").items():
        amounts[f"requests.{name}"] = value
        if name in UNPREFIXED:
            amounts[name] = value
    for name, value in needs(pod, "limits").items():
        amounts[f"limits.{name}"] = value
    return amounts


def pvc_demand(pvcs: Iterable[Manifest]) -> Amounts:
    """Return what PVCs need, by the names that a quota gives it."""
    sizes = [quantity(pvc["spec"]["resources"]["requests"]["storage"]) for pvc in pvcs]
    return {
        "persistentvolumeclaims": Decimal(len(sizes)),
        "requests.storage": sum(sizes, ZERO),
    }


# Quotas


def shortages(quota: Manifest, needed: Amounts) -> Iterator[Shortage]:
    """Yield the resources of which more is needed than a quota has left."""
    status = quota.get("status", {})
    hard = _amounts(status.get("hard") or quota["spec"].get("hard", {}))
    used = _amounts(status.get("used", {}))
    for name, allowed in hard.items():
        shortage = Shortage(name, needed.get(name, ZERO), allowed, used.get(name, ZERO))
        if shortage.needed > shortage.allowed - shortage.used:
            yield shortage


def written(name: str, value: Decimal) -> str:
    """Return an amount of a resource as one writes it in a quota, such as `4Gi`."""
    if "memory" in name or "storage" in name:
        for unit, size in BINARY.items():
            if value and value % size == 0:
                return f"{value / size:f}{unit}"
    return f"{value.normalize():f}"


# Nodes


def misfits(pod: Manifest, nodes: Sequence[Manifest]) -> str:
    """Return why no node can take a pod: each reason with the number of nodes that have it.

    Returns:
        Empty if a node can take it.
    """
    if not nodes:
        return "there is no node"
    reasons = Counter(misfit(pod, node) for node in nodes)
    if reasons[""]:
        return ""
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common())


def misfit(pod: Manifest, node: Manifest) -> str:
    """Return why a node could not take a pod even if it ran no other; empty if it could."""
    return (
        _selector_misfit(pod, node)
        or _affinity_misfit(pod, node)
        or _taint_misfit(pod, node)
        or _size_misfit(pod, node)
    )


def _selector_misfit(pod: Manifest, node: Manifest) -> str:
    labels = node["metadata"].get("labels", {})
    for key, value in pod["spec"].get("nodeSelector", {}).items():
        if labels.get(key) != value:
            return f"has no label {key}={value} (nodeSelector)"
    return ""


def _affinity_misfit(pod: Manifest, node: Manifest) -> str:
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return ""
    if any(_matches(term, node) for term in required["nodeSelectorTerms"]):
        return ""
    return "does not match the required nodeAffinity"


def _taint_misfit(pod: Manifest, node: Manifest) -> str:
    tolerations = pod["spec"].get("tolerations", [])
    for taint in node["spec"].get("taints", []):
        if taint["effect"] == "PreferNoSchedule":
            continue
        if not any(_tolerates(toleration, taint) for toleration in tolerations):
            text = f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
            return f"has taint {text}, which is not tolerated"
    return ""


def _size_misfit(pod: Manifest, node: Manifest) -> str:
    allocatable = node.get("status", {}).get("allocatable", {})
    for name, needed in needs(pod, "requests").items():
        if needed > quantity(allocatable.get(name, "0")):
            return f"has {allocatable.get(name, 'no')} {name}, less than {written(name, needed)}"
    return ""


def _matches(term: Manifest, node: Manifest) -> bool:
    labels = node["metadata"].get("labels", {})
    fields = {"metadata.name": node["metadata"]["name"]}
    by_label = term.get("matchExpressions", [])
    by_field = term.get("matchFields", [])
    if not by_label and not by_field:
        # A term without any expression matches no node.
        return False
    labels_match = all(_holds(labels, expression) for expression in by_label)
    fields_match = all(_holds(fields, expression) for expression in by_field)
    return labels_match and fields_match


def _holds(labels: Mapping[str, str], expression: Manifest) -> bool:
    key = expression["key"]
    values = expression.get("values", [])
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
            return _compares(labels, key, operator, values)


def _compares(labels: Mapping[str, str], key: str, operator: str, values: Sequence[str]) -> bool:
    try:
        label = int(labels[key])
        value = int(values[0])
    except (KeyError, ValueError, IndexError):
        return False
    if operator == "Gt":
        return label > value
    return label < value


def _tolerates(toleration: Manifest, taint: Manifest) -> bool:
    if toleration.get("effect", "") not in ("", taint["effect"]):
        return False
    key = toleration.get("key", "")
    match toleration.get("operator", "Equal"):
        case "Exists":
            return key in ("", taint["key"])
        case "Equal":
            same_value = toleration.get("value", "") == taint.get("value", "")
            return bool(key == taint["key"] and same_value)
    return False
