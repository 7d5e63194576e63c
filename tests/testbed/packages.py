"""Debian packages that the testbed runs on: installed when missing, and named when they cannot be."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

from testbed.layout import TestbedError
from testbed.nodes import CNI_FOLDERS


@dataclass(frozen=True)
class Package:
    """A Debian package, and a program that shows that it (or a substitute) is installed."""

    name: str
    program: str
    folders: tuple[str, ...] = ()


CLUSTER = (
    Package("runc", "runc"),
    Package("containernetworking-plugins", "bridge", CNI_FOLDERS),
    Package("iptables", "iptables"),
    Package("nftables", "nft"),
    Package("conntrack", "conntrack"),
    Package("iproute2", "ip"),
)
IMAGES = (Package("buildah", "buildah"), Package("mmdebstrap", "mmdebstrap"))


def ensure(packages: tuple[Package, ...]) -> None:
    """Install what is missing, as root on Debian; else raise TestbedError with its name."""
    missing = [package.name for package in packages if not _present(package)]
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise TestbedError(
            f"missing on this machine: {names}; install them (Debian's names), or run this as root on Debian"
        )
    print(f"installing {names}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
    ):
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    still = [package.name for package in packages if not _present(package)]
    if still:
        reason = (done.stderr.strip().splitlines() or ["apt-get said nothing"])[-1]
        raise TestbedError(f"cannot install {' '.join(still)}: {reason}")


def _present(package: Package) -> bool:
    path = ":".join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    places = package.folders or (path,)
    return any(shutil.which(package.program, path=place) for place in places)
