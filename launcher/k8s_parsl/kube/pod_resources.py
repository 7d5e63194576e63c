"""The resources of a worker pod, by its manifest as Helm rendered it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from k8s_parsl.config.quantity import quantity
from k8s_parsl.config.workers import Amount, Room


def room_of(label: str, pod: Mapping[str, Any]) -> Room:
    """Return what an executor's worker may use, by the limits and requests of its container."""
    resources = _resources(pod)
    limits = resources.get("limits") or {}
    requests = resources.get("requests") or {}
    key = f"executors.{label}.pod.resources.limits"
    return Room(
        cpus=_limit(limits, "cpu", key),
        memory=_limit(limits, "memory", key),
        gpus=_gpus(limits, key),
        requested=quantity(requests.get("cpu", 0)),
        requested_memory=quantity(requests.get("memory", 0)),
    )


def _resources(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    for container in pod["spec"]["containers"]:
        if container["name"] == "worker":
            return container.get("resources") or {}
    return {}


def _limit(limits: Mapping[str, Any], name: str, key: str) -> Amount | None:
    """Return a limit; None if there is none, or it is 0, which kubelet takes for none."""
    value = quantity(limits.get(name, 0))
    if not value:
        return None
    return Amount(value, f"{key}.{name} is {limits[name]}")


def _gpus(limits: Mapping[str, Any], key: str) -> Amount | None:
    """Return the sum of all GPUs, such as `nvidia.com/gpu`; None if no limit names any."""
    gpus = {name: amount for name, amount in limits.items() if name.endswith("/gpu")}
    if not gpus:
        return None
    total = sum(map(quantity, gpus.values()), Decimal())
    names = ", ".join(f"{name} is {amount}" for name, amount in sorted(gpus.items()))
    return Amount(total, f"{key}: {names}")
