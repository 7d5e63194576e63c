"""The environment variables of `pod.env` on a machine without Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from k8s_parsl.config.helm_merge import merge
from k8s_parsl.config.helm_yaml import read_yaml
from k8s_parsl_runtime.shared.errors import UsageError

# What belongs to an image: a user's shell has others.
OF_AN_IMAGE = frozenset(
    (
        *("CONDA_PREFIX", "HOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "PATH", "PYTHONHOME"),
        *("PYTHONPATH", "TMPDIR", "VIRTUAL_ENV"),
    )
)
# https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")

# In place of the names that a Secret or ConfigMap has.
ENV_FROM = "envFrom"
FROM_KUBERNETES = "it comes from Kubernetes"

Moved = Callable[[str], str]


class Variables(NamedTuple):
    """Environment variables of one container."""

    given: dict[str, str]
    # Those that this machine cannot have, and why.
    left_out: dict[str, str]


class Environments(NamedTuple):
    """The variables of the workflow, and of each executor's workers."""

    workflow: Variables
    workers: dict[str, Variables]

    @property
    def left_out(self) -> dict[str, str]:
        """Return all that this machine cannot have, and why."""
        found: dict[str, str] = {}
        for variables in (self.workflow, *self.workers.values()):
            found |= variables.left_out
        return found


def read(paths: Iterable[Path], executors: Iterable[str], moved: Moved) -> Environments:
    """Return the variables that values files give.

    Args:
        paths: the values files; a later one wins.
        executors: the labels of the executors.
        moved: returns what stands here for a path on a volume.

    Raises:
        UsageError: an entry has no name, or a value that is no string.
    """
    values: dict[str, Any] = {}
    for path in paths:
        values = merge(values, read_yaml(path), keep_null=True)
    workflow = _variables(_lists(values, ("pod",), ("launcher", "pod")), moved)
    workers = {}
    for label in executors:
        lists = _lists(values, ("pod",), ("worker", "pod"), ("executors", label, "pod"))
        workers[label] = _variables(lists, moved)
    return Environments(workflow, workers)


class _Lists(NamedTuple):
    """The list `env` of one container with its key, and what it has of `envFrom`."""

    key: str
    env: list[Any]
    env_from: Any


def _lists(values: Mapping[str, Any], *pods: tuple[str, ...]) -> _Lists:
    """Return the lists of variables of one kind of pod.

    A list of a more special pod takes the place of the whole list, as in the chart.

    Args:
        values: those of the values files.
        pods: the keys of pods, the most special one last.
    """
    merged: dict[str, Any] = {}
    key = ""
    for path in pods:
        pod = _below(values, path)
        merged = merge(merged, pod)
        if "env" in pod:
            key = ".".join([*path, "env"])
    env = merged.get("env")
    return _Lists(key, env if isinstance(env, list) else [], merged.get("envFrom"))


def _below(values: Mapping[str, Any], path: Iterable[str]) -> Mapping[str, Any]:
    """Return the map below a key; an empty one where there is none."""
    found: Any = values
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _variables(lists: _Lists, moved: Moved) -> Variables:
    variables = Variables({}, {})
    if lists.env_from:
        variables.left_out[ENV_FROM] = FROM_KUBERNETES
    for entry in lists.env:
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if not isinstance(name, str):
            raise UsageError(f"{lists.key}: an entry has no name: {entry}")
        value = entry.get("value", "")
        if not isinstance(value, str):
            raise UsageError(f"{lists.key}: {name}: the value must be a string: put it in quotes")
        expanded = moved(_expanded(value, variables.given))
        why = _why_not(name, entry, value, expanded)
        if why:
            variables.left_out[name] = why
        else:
            variables.given[name] = expanded
    return variables


def _why_not(name: str, entry: Mapping[str, Any], value: str, expanded: str) -> str:
    """Return why this machine cannot have a variable; empty if it can."""
    if entry.get("valueFrom"):
        return FROM_KUBERNETES
    if name in OF_AN_IMAGE:
        return "it is of the image"
    if not name.isidentifier():
        return "no shell takes this name"
    is_path = expanded.startswith("/") and ":" not in expanded
    if is_path and expanded == value and not Path(expanded).exists():
        return f"there is no {expanded} here"
    return ""


def _expanded(value: str, before: Mapping[str, str]) -> str:
    """Return a value as kubelet expands it: by the variables before it in the list."""

    def one(reference: re.Match[str]) -> str:
        if reference[0] == "$$":
            return "$"
        return before.get(reference[1], reference[0])

    return _REFERENCE.sub(one, value)
