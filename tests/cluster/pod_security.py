"""The cases of Kubernetes' own tests of Pod Security's profile "restricted".

They are files of the Go module k8s.io/pod-security-admission (Apache-2.0), kept in
pod_security.json as no cluster that is given needs Go. After a move of the testbed to another
Kubernetes:  PYTHONPATH=tests .venv/bin/python -m cluster.pod_security
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from testbed import parts

FILE = Path(__file__).with_suffix(".json")
MODULE = "k8s.io/pod-security-admission"


def cases(kind):
    """Pods by name: `pass` or `fail`."""
    return json.loads(FILE.read_text())[kind]


def about():
    """The module that they are from, with its version."""
    return json.loads(FILE.read_text())["module"]


def read():
    """What the module says of the newest Kubernetes that it knows."""
    source = parts.sources("kubernetes", MODULE)
    folders = (source / "test" / "testdata" / "restricted").glob("v1.*")
    newest = max(folders, key=lambda folder: int(folder.name.removeprefix("v1.")))
    about = {"module": source.name, "folder": str(newest.relative_to(source))}
    return about | {kind: _pods(newest / kind) for kind in ("pass", "fail")}


def _pods(folder):
    return {file.stem: yaml.safe_load(file.read_text()) for file in sorted(folder.iterdir())}


def _written(found):
    """A line a pod, so that a change is reviewed as a diff."""
    about = {name: text for name, text in found.items() if isinstance(text, str)}
    kinds = {name: pods for name, pods in found.items() if isinstance(pods, dict)}
    lines = [f"  {json.dumps(name)}: {json.dumps(text)}" for name, text in about.items()]
    for name, pods in kinds.items():
        rows = [
            f"    {json.dumps(pod)}: {json.dumps(spec, sort_keys=True)}"
            for pod, spec in pods.items()
        ]
        lines.append(f"  {json.dumps(name)}: {{\n" + ",\n".join(rows) + "\n  }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(_written(read()))
