"""What a release makes, for whoever looks at it from outside: rendered from values files, or as it
is installed.

Helm alone knows what the chart makes of values, so it is asked; nothing here is a second chart.
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
from k8s_parsl.kube.api import Api, of_kind
from k8s_parsl_runtime.shared.errors import UsageError, one_line

Manifest = dict[str, Any]
BOTH_HALVES = ("--set", "admin.create=true,namespaced.create=true")
# Which file of a ConfigMap says what the ceph-key Job reads and writes.
CEPH_KEY = "ceph-key.yaml"


@dataclass(frozen=True)
class Rendered:
    """One release: the launcher's pod (None in that pod itself), the worker pod of each executor,
    and all objects.

    ``installs`` is what an install with these values makes, ``objects`` what both halves make
    (docs/dev/architecture.md, "Two-part install"); both are empty where the release is installed
    already. ``arguments`` are Helm's, to repeat them to an administrator.
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
        """``arguments``, or what stands for them where nobody remembers."""
        return self.arguments or f"{self.release} CHART -n {self.namespace} -f VALUES"

    @property
    def pods(self) -> list[tuple[str, Manifest]]:
        """The pods, with what to call them."""
        launcher = [("the launcher's pod", self.launcher)] if self.launcher else []
        return launcher + [
            (f"worker pods of executor {label}", pod) for label, pod in self.workers.items()
        ]

    @property
    def certificates(self) -> str:
        """Name of the Secret that the launcher writes for its workers; nothing where they talk in
        the clear.
        """
        for pod in self.workers.values():
            for volume in pod["spec"].get("volumes", []):
                if volume["name"] == "certificates":
                    return str(volume["secret"]["secretName"])
        return ""

    def made(self, kind: str, name: str) -> Manifest | None:
        """The object of that kind and name, where an install makes it."""
        return _named(self.installs, kind, name)

    def known(self, kind: str, name: str) -> Manifest | None:
        """The same, where one of the two halves makes it."""
        return _named(self.objects, kind, name)


def containers(pod: Mapping[str, Any]) -> list[Manifest]:
    """All that run in it, and the ones before them."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def from_values(
    release: str, namespace: str, files: Sequence[str], sets: Sequence[str], chart: str = "chart"
) -> Rendered:
    """What ``helm install RELEASE CHART -f FILES --set SETS`` would make.

    Raises:
        DataError: a file is no YAML, or has a key twice, which Helm passes over.
        UsageError: there is no helm, or it does not take the values; its own words.
    """
    for file in files:
        if "://" not in file:
            read_yaml(Path(file))
    options = [word for file in files for word in ("-f", file)] + [
        word for one in sets for word in ("--set", one)
    ]
    words = [release, chart, "--namespace", namespace, *options]
    objects = _template([*words, *BOTH_HALVES])
    installs = _template(words)
    job = next(item for item in objects if item["kind"] == "Job" and _component(item) == "launcher")
    data = next(item["data"] for item in objects if "settings.yaml" in item.get("data", {}))
    return _of(release, namespace, job, data, installs, objects, shlex.join(words))


def from_release(api: Api, release: str) -> Rendered | None:
    """The installed release, by its newest launcher Job; None where there is none (any more)."""
    jobs = api.all_of(of_kind("Job", api.namespace, "batch/v1"), of_release(release, "launcher"))
    jobs.sort(key=lambda job: job["metadata"]["creationTimestamp"])
    if not jobs:
        return None
    volumes = jobs[-1]["spec"]["template"]["spec"]["volumes"]
    name = next(volume["configMap"]["name"] for volume in volumes if volume["name"] == "settings")
    found = api.find(of_kind("ConfigMap", api.namespace), name)
    return _of(release, api.namespace, jobs[-1], found["data"]) if found else None


def in_pod(release: str, namespace: str, mounted: Path) -> Rendered:
    """The release that this launcher pod runs.

    Raises:
        Failure: the mounted files cannot be read.
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
    pods = {
        name: yaml_mapping(text, name) for name, text in data.items() if name.startswith("worker-")
    }
    workers = {
        name.removeprefix("worker-").removesuffix(".yaml"): pod for name, pod in pods.items()
    }
    settings = Settings.parse(yaml_mapping(data["settings.yaml"], "settings.yaml"), "values")
    launcher = {"apiVersion": "v1", "kind": "Pod", **job["spec"]["template"]} if job else None
    return Rendered(release, namespace, settings, launcher, workers, installs, objects, arguments)


def _template(words: Sequence[str]) -> list[Manifest]:
    helm = shutil.which("helm")
    if not helm:
        raise UsageError(
            "helm is not on PATH, and it is what knows what the chart makes of values (-f)"
        )
    # Tests are no part of an install.
    done = subprocess.run(  # noqa: S603
        [helm, "template", "--skip-tests", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        refusal = one_line(done.stderr).removeprefix("Error: ")
        raise UsageError(f"helm: {with_nearest(refusal, _schema(words[1]))}")
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def _schema(chart: str) -> Manifest:
    """Return the schema of a chart's values, where it is a folder of this machine."""
    file = Path(chart, "values.schema.json")
    return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}


def _component(item: Mapping[str, Any]) -> str:
    return str(item["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))


def _named(objects: Sequence[Manifest], kind: str, name: str) -> Manifest | None:
    return next(
        (item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name),
        None,
    )
