"""What a worker pod may use, by its manifest as Helm rendered it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from k8s_parsl.config.workers import Amount, Room
from k8s_parsl.kube.quantity import quantity


def room_of(label: str, pod: Mapping[str, Any]) -> Room:
    """Return the room of an executor's pod, by requests and limits of its container `worker`."""
    container: Mapping[str, Any] = next(
        (one for one in pod["spec"]["containers"] if one["name"] == "worker"), {}
    )
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    where = f"executors.{label}.pod.resources.limits"
    gpus = {name: amount for name, amount in limits.items() if name.endswith("/gpu")}
    asked = ", ".join(f"{name} is {amount}" for name, amount in sorted(gpus.items()))
    return Room(
        cpus=_amount(limits, "cpu", where),
        memory=_amount(limits, "memory", where),
        gpus=Amount(sum(map(quantity, gpus.values()), Decimal()), f"{where}: {asked}")
        if gpus
        else None,
        requested=quantity((resources.get("requests") or {}).get("cpu", 0)),
    )


def _amount(limits: Mapping[str, Any], name: str, where: str) -> Amount | None:
    """Return a limit; none that is 0, which is none for kubelet."""
    value = quantity(limits.get(name, 0))
    return Amount(value, f"{where}.{name} is {limits[name]}") if value else None
