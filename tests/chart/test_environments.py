"""The values files of values/, and that each key of a values file does something."""

from __future__ import annotations

import ast
import copy
import functools
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from quick import quick

import k8s_parsl
import k8s_parsl_runtime
from chart.helm import CHART, VALUES
from k8s_parsl.config import settings
from k8s_parsl.config.helm_merge import merge
from k8s_parsl.config.helm_yaml import read_yaml
from k8s_parsl.config.model import Model
from values_schema.chart_values import Values
from values_schema.helm_schema import values_schema
from values_schema.reference import values_reference
from values_schema.storage_values import ChartVolume

ENVIRONMENTS = [VALUES / f"{name}.yaml" for name in ("local", "dev", "staging", "prod")]
EVERY_KEY = VALUES / "every-key.yaml"
DEFAULTS = read_yaml(CHART / "values.yaml")
KeyPath = tuple[str, ...]


def leaves(node: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield each key whose value is not a map, and its value; an empty map counts as a value."""
    if isinstance(node, Mapping) and node:
        for key, below in node.items():
            yield from leaves(below, (*path, str(key)))
    else:
        yield path, node


def dotted(path: KeyPath) -> str:
    return ".".join(path)


# Environments -------------------------------------------------------------------------------------


def set_to_the_default(model: BaseModel, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the keys that are set to the default of their model."""
    for name, field in type(model).model_fields.items():
        if name not in model.model_fields_set:
            continue
        value = getattr(model, name)
        here = (*path, str(field.alias))
        if not field.is_required() and value == field.get_default(call_default_factory=True):
            yield here
        elif isinstance(value, BaseModel):
            yield from set_to_the_default(value, here)
        elif isinstance(value, dict):
            for key, below in value.items():
                if isinstance(below, BaseModel):
                    yield from set_to_the_default(below, (*here, key))


def without_pods(node: Any) -> Any:
    """Return the values without PodSpecs, whose fields the models do not know."""
    if not isinstance(node, Mapping):
        return node
    rest = {key: without_pods(below) for key, below in node.items() if key != "pod"}
    return {key: below for key, below in rest.items() if key != "launcher" or below}


def pods(values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Yield the name of each map of pod fields, its fields, and those that it is merged over."""
    below = merge(DEFAULTS["pod"], values.get("pod", {}))
    yield "pod", values.get("pod", {}), DEFAULTS["pod"]
    for kind in ("launcher", "worker"):
        yield (
            f"{kind}.pod",
            values.get(kind, {}).get("pod", {}),
            merge(below, DEFAULTS[kind]["pod"]),
        )
    workers = merge(
        merge(below, DEFAULTS["worker"]["pod"]), values.get("worker", {}).get("pod", {})
    )
    for label, executor in values["executors"].items():
        yield f"executors.{label}.pod", executor.get("pod", {}), workers


@pytest.mark.parametrize("file", ENVIRONMENTS, ids=lambda file: file.stem)
def test_an_environment_says_nothing_that_is_the_default(file):
    values = read_yaml(file)
    model = Values.model_validate_json(json.dumps(without_pods(values)))
    assert [dotted(path) for path in set_to_the_default(model)] == []
    for where, given, below in pods(values):
        again = set(map(str, leaves(given))) & set(map(str, leaves(below)))
        assert again == set(), where


# Which workflow it is, in every environment; who installs, in some.
IN_SEVERAL = {"image.repository", "image.runtime", "workflow.call", "admin.create"}


def test_no_environment_repeats_another():
    """Each is merged over the chart's defaults only, and has what is particular to its place."""
    for one, other in itertools.combinations(ENVIRONMENTS, 2):
        theirs = list(leaves(read_yaml(other)))
        both = [path for path, value in leaves(read_yaml(one)) if (path, value) in theirs]
        # Sizes may be the same.
        repeated = {dotted(path) for path in both if path[0] != "executors"}
        assert repeated <= IN_SEVERAL, f"{one.stem} and {other.stem}"


@pytest.mark.parametrize("file", ENVIRONMENTS, ids=lambda file: file.stem)
def test_an_environment_is_small(file):
    """Read at a glance: less than a page, comments left out."""
    lines = [
        line
        for line in file.read_text("utf-8").splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]
    assert len(lines) < 70


# Keys ---------------------------------------------------------------------------------------------


def resolved(whole: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in node:
        return node
    return whole["$defs"][node["$ref"].removeprefix("#/$defs/")] | {
        k: v for k, v in node.items() if k != "$ref"
    }


def described(node: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield the same as `leaves`, but the launcher's resources as a whole, as the reference does."""
    if isinstance(node, Mapping) and node and path[:-1] != ("launcher", "resources"):
        for key, below in node.items():
            yield from described(below, (*path, str(key)))
    else:
        yield path, node


def test_every_key_of_values_yaml_is_in_the_schema_and_in_the_reference():
    """By its own name, and with its default. Kubernetes describes the keys of a PodSpec."""
    whole = values_schema()
    reference = values_reference()
    for path, value in described(DEFAULTS):
        node: Mapping[str, Any] = whole
        for key in path:
            node = resolved(whole, node)
            node = node.get("properties", {}).get(key) or node["additionalProperties"]
        in_pod = "pod" in path[:-1]
        if path in (("executors",), ("storage",), ("apps",)):
            assert f"| `{path[0]}.<" in reference
            continue
        row = row_of(path, reference)
        assert row in reference, dotted(path)
        if not in_pod and path[0] != "pod" and value not in (None, [], {}):
            line = next(line for line in reference.splitlines() if line.startswith(row))
            assert f"| `{json.dumps(value)}` |" in line, line


def row_of(path: KeyPath, reference: str) -> str:
    """Return how the row of a key begins."""
    if "pod" not in path[:-1]:
        return f"| `{dotted(path)}` |"
    if path[0] != "pod":
        return f"| `{dotted(path[: path.index('pod') + 1])}` |"
    row = f"| `pod.{path[1]}` |"
    return row if row in reference else "| `pod.<field>` |"


# Values that mean something else than the default, where the opposite is not a value.
OTHER: dict[str, Any] = {
    "image.pullPolicy": "Never",
    "image.digest": "sha256:" + "0" * 64,
    "image.repository": "other/image",
    "image.runtime": "included",
    "imagePullSecrets": [{"name": "x"}],
    "workflow.call": "another:f",
    "workflow.kwargs": {"a": 1},
    "workflow.path": "/elsewhere",
    "workflow.workDir": "/elsewhere",
    "workflow.files": {"a.py": ""},
    "run.volume": "data",
    "executors": {"another": {}},
    "parsl.strategy": "none",
    "parsl.retryLostTasks": "none",
    "storage": {"more": {"mountPath": "/more", "existingClaim": "m"}},
    "logging.level": "DEBUG",
    "pod.containerSecurityContext.capabilities.drop": ["NET_RAW"],
    "launcher.image.repository": "other/k8s-parsl",
    "launcher.image.digest": "sha256:" + "0" * 64,
    "launcher.image.pullPolicy": "Never",
    "launcher.env": [{"name": "A", "value": "b"}],
    "launcher.runtimeVolume": "image",
    "job.annotations": {"a": "b"},
    "metrics.from": [{"podSelector": {}}],
    "metrics.podMonitor.labels": {"a": "b"},
    "metrics.podMonitor.interval": "7s",
    "serviceAccount.annotations": {"a": "b"},
}
# Keys that go together: one of `call` and `script`, and those of `git`.
GIT = {"url": "https://example.org/a/b", "commit": "1" * 40}
INSTEAD: dict[str, dict[str, Any]] = {
    "workflow.git.url": {"workflow": {"git": GIT | {"url": "https://example.org/c/d"}}},
    "workflow.git.commit": {"workflow": {"git": GIT | {"commit": "2" * 40}}},
    "workflow.git.path": {"workflow": {"git": GIT | {"path": "flows"}}},
    "workflow.git.secret": {"workflow": {"git": GIT | {"secret": "pdg-git"}}},
    "workflow.script": {"workflow": {"call": "", "script": "x.py"}},
    "workflow.args": {"workflow": {"call": "", "script": "x.py", "args": ["-v"]}},
}
BESIDE = {"workflow.args": {"workflow": {"call": "", "script": "x.py"}}}
# Of an image that is not k8s-parsl's own.
OF_AN_IMAGE = (
    "image.tag",
    "image.digest",
    "image.pullPolicy",
    "image.runtime",
    "launcher.runtimeVolume",
)
BESIDE |= {
    f"metrics.{key}": {"metrics": {"enabled": True}} for key in ("port", "from", "annotations")
}
BESIDE |= {
    f"metrics.podMonitor.{key}": {"metrics": {"enabled": True, "podMonitor": {"enabled": True}}}
    for key in ("labels", "interval")
}
BESIDE["metrics.podMonitor.enabled"] = {"metrics": {"enabled": True}}
BESIDE |= {key: {"image": {"repository": "any"}} for key in OF_AN_IMAGE}
# Read only on a laptop: test_settings.py.
NOT_THE_CHARTS = {"laptop.python"}
BESIDE |= {
    f"workflow.git.{key}": {"workflow": {"git": GIT}} for key in ("url", "commit", "path", "secret")
}
LEAST: dict[str, Any] = {
    "workflow": {"call": "m:f"},
    "executors": {"w": {}},
    "storage": {"data": {"mountPath": "/data", "existingClaim": "c"}, "v": {"mountPath": "/v", "cephfs": {
        "clusterID": "c", "rootPath": "/r", "secret": {"name": "s"}}}},
}  # fmt: skip


def other(path: KeyPath, value: Any) -> dict[str, Any]:
    """Return values with another value at ``path``."""
    name = dotted(path)
    if name in INSTEAD:
        return INSTEAD[name]
    changed = OTHER.get(name)
    if changed is None:
        changed = another(value)
    for key in reversed(path):
        changed = {key: changed}
    return dict(changed)


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str | list):
        return "7"
    return (value or 0) + 1


@pytest.mark.parametrize(
    ("path", "value"), list(leaves(DEFAULTS)), ids=[dotted(path) for path, _ in leaves(DEFAULTS)]
)
def test_every_key_of_values_yaml_does_something(helm, path, value):
    """Another value makes other objects."""
    # What a run's volume is for shows with one, but for the volume itself.
    least = LEAST if path == ("run", "volume") else merge(LEAST, {"run": {"volume": "data"}})
    least = merge(least, BESIDE.get(dotted(path), {}))
    changed = without_hashes(helm, merge(least, other(path, value)))
    assert (changed != without_hashes(helm, least)) is (dotted(path) not in NOT_THE_CHARTS)


def without_hashes(helm, values: dict[str, Any]) -> str:
    """Return what is rendered, or Helm's refusal, without hashes."""
    return _without_hashes(helm, json.dumps(values))


@functools.cache
def _without_hashes(helm, values: str) -> str:
    text = helm("template", "pdgrun", str(CHART), "-f", "-", stdin=values, check=False)
    return re.sub(r"\b[0-9a-f]{8}\b", "", text)


def model_keys(node: Any, model: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the keys of a values file that our own models describe, without a PodSpec's."""
    for field in model.model_fields.values():
        here = (*path, str(field.alias))
        value = node.get(field.alias)
        inner = next((m for m in models_of(field.annotation)), None)
        if field.alias not in node or field.alias == "global":
            continue
        if inner is None or path[-1:] == ("pod",) or field.alias == "pod":
            yield here
        elif str(field.annotation).startswith("dict"):
            for key, below in value.items():
                yield from model_keys(below, inner, (*here, key))
        elif isinstance(value, dict):
            yield from model_keys(value, inner, here)
        else:
            yield here


def models_of(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in models_of(inner)]


EVERY = read_yaml(EVERY_KEY)
# Keys that every-key.yaml sets to the default: there is no other value, or with another one the
# rest would be left out.
AS_DEFAULT = {
    "workflow.script",
    "workflow.args",
    "workflow.files",
    "storage.dev-0.accessModes",
    "image.runtime",
    "rbac.create",
    "rbac.events",
    "networkPolicy.create",
    "admin.create",
    "namespaced.create",
    "serviceAccount.create",
    "workerServiceAccount.create",
    "storage.tiles-0.cephfs.secret.namespace",
    "storage.inputs-0.cephfs.secret.namespace",
    # The digest wins.
    "image.tag",
    "launcher.image.tag",
    # Not the chart's.
    "laptop.python",
}


@pytest.mark.slow
def test_every_key_of_every_key_yaml_does_something(helm):
    """Without it other objects are made, or Helm refuses the values."""
    whole = without_hashes(helm, EVERY)
    without_effect = []
    for path in model_keys(EVERY, Values):
        values = copy.deepcopy(EVERY)
        node = values
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]
        if without_hashes(helm, values) == whole:
            without_effect.append(dotted(path))
    assert set(without_effect) == AS_DEFAULT


STATIC = {"clusterID": "c", "rootPath": "/r"}
PLACE = {"url": "https://v", "auth": {"role": "r"}, "kv": {"mount": "m", "path": "p"}}
SOURCES = {
    "claim": {"existingClaim": "c"},
    "static": {"cephfs": STATIC | {"secret": {"name": "s"}}},
    "vault": {"cephfs": STATIC | {"secret": {"vault": PLACE}}},
    "external": {
        "cephfs": STATIC | {"secret": {"externalSecret": {"path": "p", "storeRef": {"name": "s"}}}}
    },
}
VOLUMES = {"storage": {key: {"mountPath": f"/{key}"} | source for key, source in SOURCES.items()}}
# The Job that asks Vault gets these as they are given, and its own models have the same defaults
# (test_ceph_key.py).
HANDED_ON = re.compile(r"storage\.vault\.cephfs\.secret\.vault\.(?!caBundle|schedule)")


def unsaid(node: Mapping[str, Any], model: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Yield each key that a values file does not set, with the default that the schema shows."""
    for field in model.model_fields.values():
        here = (*path, str(field.alias))
        if isinstance(inner := node.get(field.alias), dict):
            yield from unsaid(inner, next(iter(models_of(field.annotation))), here)
        elif field.alias not in node and not field.is_required():
            default = field.get_default(call_default_factory=True)
            if default is not None:
                yield here, json.loads(json.dumps(default))


UNSAID = [
    (path, default)
    for key, volume in VOLUMES["storage"].items()
    for path, default in unsaid(volume, ChartVolume, ("storage", key))
    # `readOnly` is the launcher's, `file` no key.
    if not HANDED_ON.match(dotted(path)) and path[-1] not in ("readOnly", "file")
]


@pytest.mark.parametrize(("path", "default"), quick(UNSAID, 12), ids=[dotted(p) for p, _ in UNSAID])
def test_a_default_of_a_volume_that_is_set_changes_nothing(helm, path, default):
    """The templates repeat these defaults; they are those that the reference shows."""
    least = {"workflow": {"call": "m:f"}, "executors": {"w": {}}} | VOLUMES
    for key in reversed(path):
        default = {key: default}
    assert without_hashes(helm, merge(least, default)) == without_hashes(helm, least)


def asks_for(node: ast.AST) -> str:
    """Return the name of an attribute, or of a key of the runtime's maps; empty for other nodes."""
    match node:
        case ast.Attribute(attr=str(name)):
            return name
        case ast.Subscript(
            value=ast.Name(id="parsl" | "executor" | "monitoring"),
            slice=ast.Constant(value=str(name)),
        ):
            return name
    return ""


def test_every_setting_is_read_by_launcher_or_runtime():
    """No setting is without effect."""
    packages = (k8s_parsl, k8s_parsl_runtime)
    folders = [Path(folder) for package in packages for folder in package.__path__]
    whole = [file for folder in folders for file in folder.rglob("*.py")]
    others = [file for file in whole if file.name != "settings.py"]
    asked = {
        asks_for(node) for file in others for node in ast.walk(ast.parse(file.read_text("utf-8")))
    }
    models = [
        getattr(settings, name)
        for name in (
            "Settings",
            "Run",
            "Workflow",
            "Git",
            "Executor",
            "Parsl",
            "AppLimits",
            "Monitoring",
            "Volume",
            "Logging",
            "Page",
            "Metrics",
            "Notify",
            "Laptop",
        )
    ]
    fields = {name for model in models for name in model.model_fields}
    # `run.id` is there to be another: it changes the name of the run.
    assert fields - asked - {"id"} == set()


def test_global_values_are_taken_and_change_nothing(each_helm):
    """Of a parent chart."""
    least = {"workflow": {"call": "m:f"}, "executors": {"w": {}}}
    over = least | {
        "global": {
            "imageRegistry": "registry.example.org",
            "storageClass": "x",
            "any": {"thing": [1]},
        }
    }
    assert each_helm.template(over=over).text == each_helm.template(over=least).text
