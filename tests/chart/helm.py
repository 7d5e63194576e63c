"""Runs real Helm on the chart, without a cluster, and hands back what it rendered."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from k8s_parsl.config.helm_merge import merge
from k8s_parsl.config.helm_yaml import read_yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "chart"
VALUES = REPOSITORY / "values"
VALUES_FILES = sorted(VALUES.glob("*.yaml"))

MINIMAL: dict[str, Any] = {
    "workflow": {"call": "package.module:main"},
    "executors": {"workers": {}},
}
"""The least that the chart renders."""

# The safe loader of libyaml: a tenth of the time of the one in Python, and there are thousands of
# renders.
FAST = yaml.CSafeLoader

Object = dict[str, Any]


def container(pod: Object, name: str) -> Object:
    """A pod's container, or init container, of this name."""
    spec = pod["spec"]
    (found,) = [
        item for item in spec["containers"] + spec.get("initContainers", []) if item["name"] == name
    ]
    return dict(found)


def hook(item: Object) -> bool:
    """Whether it is there for `helm test` alone."""
    return "helm.sh/hook" in item["metadata"].get("annotations", {})


@dataclass(frozen=True)
class Rendered:
    """The objects of one release, in Helm's order, and the text they came from."""

    text: str
    objects: tuple[Object, ...]

    def all(self, kind: str) -> list[Object]:
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind: str, name: str = "") -> Object:
        """The one object of this kind, whose name starts with ``name``."""
        (found,) = [item for item in self.all(kind) if item["metadata"]["name"].startswith(name)]
        return found

    def of(self, component: str, kind: str = "") -> list[Object]:
        """The objects of one component, such as the launcher; of one kind, or all."""
        return [
            item
            for item in self.objects
            if item["metadata"]["labels"].get("app.kubernetes.io/component") == component
            and kind in ("", item["kind"])
        ]

    @property
    def job(self) -> Object:
        """The launcher's."""
        (found,) = self.of("launcher", "Job")
        return found

    @property
    def job_name(self) -> str:
        return str(self.job["metadata"]["name"])

    @property
    def launcher(self) -> Object:
        """The launcher's pod template."""
        template: Object = self.job["spec"]["template"]
        return template

    @property
    def settings_data(self) -> dict[str, str]:
        (found,) = [
            item
            for item in self.all("ConfigMap")
            if "settings.yaml" in item["data"] and not hook(item)
        ]
        return dict(found["data"])

    @property
    def settings_text(self) -> str:
        return self.settings_data["settings.yaml"]

    @property
    def workers(self) -> dict[str, Object]:
        """The workers' pod manifests by executor."""
        return {
            name.removeprefix("worker-").removesuffix(".yaml"): yaml.load(text, FAST)
            for name, text in self.settings_data.items()
            if name.startswith("worker-")
        }


class Server:
    """Helm as a process that stays: a start of Helm takes longer than most renders."""

    def __init__(self, program: Path) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Memory is collected only above the limit: that is rare, and so cheap.
            env=_environment() | {"GOMEMLIMIT": "256MiB"},
        )

    def run(self, args: tuple[str, ...], stdin: str) -> tuple[int, str]:
        """Run a command of Helm; return its exit status and what it printed."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        asked = {"args": args, "stdin": stdin, "folder": str(Path.cwd())}
        with self._lock:
            requests.write(f"{json.dumps(asked)}\n")
            requests.flush()
            line = answers.readline()
        if not line:
            raise AssertionError(f"Helm's server ended at: helm {' '.join(args)}")
        answer = json.loads(line)
        return answer["code"], answer["text"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@dataclass(frozen=True)
class Helm:
    """One of the two Helms that the chart works with."""

    program: Path
    server: Server | None = None
    """The same Helm, for `helm template`; not with --debug, which shows a schema that is compiled."""

    def __call__(self, *args: str, stdin: str = "", check: bool = True) -> str:
        """What ``helm args`` prints, on both channels."""
        if self.server is not None and args[0] == "template" and "--debug" not in args:
            code, text = self.server.run(args, stdin)
        else:
            code, text = start(self.program, args, stdin)
        if check and code:
            raise AssertionError(f"helm {' '.join(args)}\n{text}")
        return text

    def template(
        self,
        *files: Path,
        over: Mapping[str, Any] | None = None,
        release: str = "pdgrun",
        namespace: str = "pdgrun",
        chart: Path = CHART,
        args: tuple[str, ...] = (),
    ) -> Rendered:
        """The release of these values files, with ``over`` as the last of them."""
        return _template(self, files, json.dumps(over or {}), release, namespace, chart, args)

    def refusal(self, over: Mapping[str, Any], *files: Path, namespace: str = "pdgrun") -> str:
        """What Helm says to values that it does not take; empty where it takes them."""
        command = [
            "template",
            "pdgrun",
            str(CHART),
            "--namespace",
            namespace,
            *_options(files),
            "-f",
            "-",
        ]
        text = self(*command, stdin=json.dumps(over), check=False)
        return text if text.startswith("Error:") else ""


@functools.cache
def _template(
    helm: Helm,
    files: tuple[Path, ...],
    over: str,
    release: str,
    namespace: str,
    chart: Path,
    args: tuple[str, ...],
) -> Rendered:
    command = [
        "template",
        release,
        str(chart),
        "--namespace",
        namespace,
        *_options(files),
        "-f",
        "-",
        *args,
    ]
    if helm.server is None and chart == CHART and not args and _is_valid(files, over):
        # Helm takes as long to compile the schema as for all the rest, and its server compiles it
        # once.
        command.append("--skip-schema-validation")
    text = helm(*command, stdin=over)
    return Rendered(text, tuple(item for item in yaml.load_all(text, FAST) if item))


def start(program: Path, args: tuple[str, ...], stdin: str) -> tuple[int, str]:
    """Start Helm; return its exit status and what it printed."""
    done = subprocess.run(
        [str(program), *args],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(),
        check=False,
    )
    return done.returncode, done.stdout


def _environment() -> dict[str, str]:
    # Too short a life for a garbage collector: a quarter of its time.
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "GOGC": "off"}


def _is_valid(files: tuple[Path, ...], over: str) -> bool:
    """Whether the chart's schema takes these values, merged as Helm merges them."""
    values = _values(CHART / "values.yaml")
    for file in files:
        values = merge(values, _values(file))
    return _schema().is_valid(merge(values, json.loads(over)))


@functools.cache
def _values(file: Path) -> Any:
    return read_yaml(file)


@functools.cache
def _schema() -> Any:
    return jsonschema.Draft202012Validator(json.loads((CHART / "values.schema.json").read_text()))


def _options(files: tuple[Path, ...]) -> list[str]:
    return [option for file in files for option in ("-f", str(file))]
