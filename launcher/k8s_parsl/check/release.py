"""The objects of a release: rendered from values files, or as they are installed.

Only Helm knows what the chart creates from values, so Helm renders it; nothing here is a second
chart.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from k8s_parsl.config.helm_yaml import read_yaml, yaml_mapping
from k8s_parsl.config.nearest import with_nearest
from k8s_parsl.config.settings import Settings
from k8s_parsl.identity import of_release
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.resource import of_kind
from k8s_parsl_runtime.shared.errors import UsageError, one_line

Manifest = dict[str, Any]
BOTH_HALVES = ("--set", "admin.create=true,namespaced.create=true")
# The file of a ConfigMap that says what the ceph-key Job reads and writes.
CEPH_KEY = "ceph-key.yaml"


@dataclass(frozen=True)
class Pod:
    """A pod that a release will have."""

    # For messages.
    what: str
    manifest: Manifest
    # How many of them there may be at once.
    most: int


@dataclass(frozen=True)
class Rendered:
    """One release.

    Args:
        release: Its name.
        namespace: Its namespace.
        settings: The launcher's settings.
        launcher: The launcher's pod; None in that pod itself.
        workers: The worker pod of each executor.
        installs: The objects that an install with these values creates; empty for an installed
            release.
        objects: The objects of both halves (docs/dev/architecture.md, "Two-part install"); empty
            for an installed release.
        arguments: Of Helm, to repeat them to an administrator.
    """

    release: str
    namespace: str
    settings: Settings
    launcher: Manifest | None
    workers: Mapping[str, Manifest]
    installs: Sequence[Manifest]
    objects: Sequence[Manifest]
    arguments: str

    @property
    def repeated(self) -> str:
        """Helm's ``arguments``, or placeholders for an installed release."""
        return self.arguments or f"{self.release} CHART -n {self.namespace} -f VALUES"

    @property
    def pods(self) -> list[Pod]:
        """The launcher's pod, then one of each executor."""
        pods = []
        if self.launcher:
            pods.append(Pod("the launcher's pod", self.launcher, most=1))
        for label, manifest in self.workers.items():
            most = self.settings.executors[label].max_blocks
            pods.append(Pod(f"worker pods of executor {label}", manifest, most))
        return pods

    @property
    def certificates(self) -> str:
        """The name of the launcher's Secret for its workers; empty if they do not use TLS."""
        for pod in self.workers.values():
            for volume in pod["spec"].get("volumes", []):
                if volume["name"] == "certificates":
                    return str(volume["secret"]["secretName"])
        return ""

    def made(self, kind: str, name: str) -> Manifest | None:
        """Return an object that an install creates; None if it creates no such object."""
        return _named(self.installs, kind, name)

    def known(self, kind: str, name: str) -> Manifest | None:
        """Return an object of one of the two halves; None if neither has it."""
        return _named(self.objects, kind, name)


def containers(pod: Mapping[str, Any]) -> list[Manifest]:
    """Return all containers of a pod, the init containers first."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def from_values(
    release: str, namespace: str, files: Sequence[str], sets: Sequence[str], chart: str = "chart"
) -> Rendered:
    """Return what ``helm install RELEASE CHART -f FILES --set SETS`` would create.

    Raises:
        DataError: a file is not YAML, or has a key twice, which Helm ignores.
        UsageError: there is no helm on PATH, or it rejects the values; with its own words.
    """
    for file in files:
        if "://" not in file:
            read_yaml(Path(file))
    words = [release, chart, "--namespace", namespace]
    for file in files:
        words += ["-f", file]
    for one in sets:
        words += ["--set", one]
    objects = _template([*words, *BOTH_HALVES])
    installs = _template(words)
    job = next(item for item in objects if _is_launcher_job(item))
    data = next(item["data"] for item in objects if "settings.yaml" in item.get("data", {}))
    return _of(release, namespace, job, data, installs, objects, shlex.join(words))


def from_release(api: Api, release: str) -> Rendered | None:
    """Return the installed release, by its newest launcher Job; None if there is none (any more).

    Raises:
        ApiError: the API server refused it, or did not answer.
    """
    jobs = api.list_objects(
        of_kind("Job", api.namespace, "batch/v1"), of_release(release, "launcher")
    )
    if not jobs:
        return None
    newest = max(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]))
    volumes = newest["spec"]["template"]["spec"]["volumes"]
    name = next(volume["configMap"]["name"] for volume in volumes if volume["name"] == "settings")
    config_map = api.find(of_kind("ConfigMap", api.namespace), name)
    if config_map is None:
        return None
    return _of(release, api.namespace, newest, config_map["data"])


def in_pod(release: str, namespace: str, mounted: Path) -> Rendered:
    """Return the release that this launcher pod runs.

    Args:
        release: Its name.
        namespace: Its namespace.
        mounted: The folder with the files of its ConfigMap.

    Raises:
        Failure: the files cannot be read.
    """
    data = {file.name: file.read_text("utf-8") for file in mounted.glob("*.yaml")}
    return _of(release, namespace, None, data)


def _of(
    release: str,
    namespace: str,
    job: Manifest | None,
    data: Mapping[str, str],
    installs: Sequence[Manifest] = (),
    objects: Sequence[Manifest] = (),
    arguments: str = "",
) -> Rendered:
    """Return a release by its launcher Job and the data of its ConfigMap."""
    settings = Settings.parse(yaml_mapping(data["settings.yaml"], "settings.yaml"), "values")
    launcher = None
    if job:
        launcher = {"apiVersion": "v1", "kind": "Pod", **job["spec"]["template"]}
    workers = {}
    for name, text in data.items():
        if name.startswith("worker-"):
            label = name.removeprefix("worker-").removesuffix(".yaml")
            workers[label] = yaml_mapping(text, name)
    return Rendered(release, namespace, settings, launcher, workers, installs, objects, arguments)


def _template(words: Sequence[str]) -> list[Manifest]:
    helm = shutil.which("helm")
    if not helm:
        raise UsageError("helm is not on PATH: only helm can render the values (-f)")
    # Tests are not part of an install.
    done = subprocess.run(  # noqa: S603
        [helm, "template", "--skip-tests", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        refusal = one_line(done.stderr).removeprefix("Error: ")
        raise UsageError(f"helm: {with_nearest(refusal, _schema(words[1]))}")
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def _schema(chart: str) -> Manifest:
    """Return the schema of a chart's values; empty if the chart is not a folder of this machine."""
    file = Path(chart, "values.schema.json")
    if not file.is_file():
        return {}
    return dict(json.loads(file.read_text("utf-8")))


def _is_launcher_job(item: Manifest) -> bool:
    labels = item["metadata"].get("labels", {})
    component = labels.get("app.kubernetes.io/component", "")
    return bool(item["kind"] == "Job" and component == "launcher")


def _named(objects: Sequence[Manifest], kind: str, name: str) -> Manifest | None:
    for item in objects:
        if item["kind"] == kind and item["metadata"]["name"] == name:
            return item
    return None
