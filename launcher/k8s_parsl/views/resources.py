"""Requested against used: what the pods of each executor request, and what tasks used of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from k8s_parsl.journal.executors import Executor
from k8s_parsl.journal.state import State
from k8s_parsl.journal.usages import Usage
from k8s_parsl.views.words import decimal, size

Json = dict[str, Any]

SHOWN_EXECUTORS = 100
SHOWN_APPS = 100
# An advice needs so many tries.
ENOUGH = 3
# What a request should have beyond what was used, and for the programs of Parsl beside the tasks.
SPARE = 1.25
OWN_BYTES = 256 << 20
STEP_BYTES = 256 << 20
STEP_CPUS = 0.1
# A request is worth a word where less than this is enough, or where so much of it was used.
MUCH_LESS = 0.7
NEARLY_ALL = 0.9
OUT_OF_MEMORY = "OOMKilled"


def requested_and_used(state: State) -> list[Json]:
    """Return a row for each executor that ran tasks, each with a row for each of its apps."""
    by_executor: dict[str, dict[str, Usage]] = {}
    for (label, app), usage in state.tasks.work.usages.rows.items():
        by_executor.setdefault(label, {})[app] = usage
    labels = sorted(by_executor)[:SHOWN_EXECUTORS]
    return [_executor(state, label, by_executor[label]) for label in labels]


def _executor(state: State, label: str, apps: dict[str, Usage]) -> Json:
    known = state.executors.get(label, Executor())
    most = sorted(apps.items(), key=lambda item: -item[1].seconds)[:SHOWN_APPS]
    cpu_s = sum(usage.cpu for usage in apps.values())
    pod_s = state.pods.seconds.get(label, 0.0)
    return {
        "executor": label,
        "of": known.of,
        "most_pods": known.most_pods,
        "workers_per_pod": known.workers_per_pod,
        "requests": {"cpu": known.cpu, "memory": known.memory},
        "limits": {"cpu": known.cpu_limit, "memory": known.memory_limit},
        "worker": {
            "cpu": round(known.cpu / known.sharing, 3),
            "memory": known.memory // known.sharing,
        },
        "cpu_s": round(cpu_s, 3),
        "requested_cpu_s": round(known.cpu * pod_s, 1),
        "apps": [_app(known, app, usage) for app, usage in most],
        "advice": list(_advice(state, label, known, list(apps.values()))),
    }


def _app(known: Executor, app: str, usage: Usage) -> Json:
    return {
        "app": app,
        "tries": usage.tries,
        "peak_bytes": usage.peak,
        "mean_cpus": round(usage.mean_cpus, 2),
        "most_cpus": round(_most_cpus(usage), 2),
        "sentence": _sentence(known, app, usage),
    }


def _most_cpus(usage: Usage) -> float:
    """Return the CPUs of the try that used the most; short ones are known by their average only."""
    return max(usage.most_cpus, usage.mean_cpus)


def _sentence(known: Executor, app: str, usage: Usage) -> str:
    memory = f"at most {size(usage.peak)}"
    if known.memory:
        memory += f" of the {size(known.memory // known.sharing)} that its worker has"
    cpus = f"{decimal(_most_cpus(usage))} CPUs"
    if known.cpu:
        share = known.cpu / known.sharing
        noun = "CPU" if share == 1 else "CPUs"
        cpus = f"{decimal(_most_cpus(usage))} of its {decimal(share)} {noun}"
    return f"a task of app {app} used {memory}, and {cpus}"


def _advice(state: State, label: str, known: Executor, usages: list[Usage]) -> Iterator[str]:
    """Yield what to raise or lower."""
    if sum(usage.tries for usage in usages) < ENOUGH:
        return
    key = f"executors.{label}.pod.resources.requests"
    peak = max(usage.peak for usage in usages)
    cpus = max(_most_cpus(usage) for usage in usages)
    if peak:
        yield from _memory_advice(state, label, known, peak, f"{key}.memory")
    if cpus and known.of == "pod":
        yield from _cpu_advice(known, cpus, f"{key}.cpu")


def _memory_advice(state: State, label: str, known: Executor, peak: int, key: str) -> Iterator[str]:
    workers = _workers(known.sharing)
    together = known.sharing * peak
    enough = together * SPARE + OWN_BYTES
    enough_mib = math.ceil(enough / STEP_BYTES) * STEP_BYTES >> 20
    if _was_out_of_memory(state, label):
        yield f"worker pods were {OUT_OF_MEMORY}: raise {key}, or have fewer workers in a pod"
    elif known.of == "pool" or not known.memory:
        yield f"{key} of {enough_mib}Mi is enough for {workers} of a pod"
    elif together > NEARLY_ALL * known.memory:
        yield f"raise {key} to {enough_mib}Mi, or have fewer workers in a pod"
    elif (enough_mib << 20) < MUCH_LESS * known.memory:
        yield f"{key} may be lower: {enough_mib}Mi is enough for {workers} of a pod"


def _cpu_advice(known: Executor, cpus: float, key: str) -> Iterator[str]:
    workers = _workers(known.sharing)
    together = known.sharing * cpus
    enough = max(math.ceil(together / STEP_CPUS) * STEP_CPUS, STEP_CPUS)
    if not known.cpu:
        yield f"{key} of {decimal(enough)} is what {workers} of a pod used at most"
    elif enough < MUCH_LESS * known.cpu:
        yield (
            f"{key} may be lower: {workers} used {decimal(enough)} of"
            f" {decimal(known.cpu)} CPUs at most; or have more workers in a pod"
        )
    elif together > known.cpu / NEARLY_ALL:
        yield f"tasks used more CPUs than their pods request: raise {key} to {decimal(enough)}"


def _workers(number: int) -> str:
    return "the worker" if number == 1 else f"the {number} workers"


def _was_out_of_memory(state: State, label: str) -> bool:
    return any(
        pod.executor == label and pod.reason == OUT_OF_MEMORY for pod in state.pods.by_name.values()
    )
