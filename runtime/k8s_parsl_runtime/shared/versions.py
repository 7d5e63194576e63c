"""Which Python and Parsl an environment has, and which ones this runtime supports."""

from __future__ import annotations

import shlex
import sys
from importlib import metadata

from k8s_parsl_runtime.shared.programs import on_laptop

# Releases whose insides were read: tests/runtime/test_parsl_contract.py runs against each of them.
PARSL_RELEASES = ("2026.10.26",)


def versions() -> str:
    """Return what has to be the same in the workflow container and in its workers, as
    `py3.11/parsl2026.10.26`.

    Without Parsl the second half is `parsl` alone.
    """
    return f"py{sys.version_info.major}.{sys.version_info.minor}/parsl{parsl_release()}"


def parsl_release() -> str:
    """Return the installed release of Parsl; empty where there is none. Parsl is not imported."""
    try:
        return metadata.version("parsl")
    except metadata.PackageNotFoundError:
        return ""


def misfit() -> str:
    """Return why this environment cannot run the runtime, in one line; empty where it can."""
    release = parsl_release()
    if release in PARSL_RELEASES:
        return ""
    found = f"has Parsl {release}" if release else "has no Parsl"
    wanted = " or ".join(PARSL_RELEASES)
    if on_laptop():
        named, python = f"{sys.executable} (laptop.python, --python)", shlex.quote(sys.executable)
        return f"{named} {found}; k8s-parsl supports {wanted}: {python} -m pip install parsl=={PARSL_RELEASES[-1]}"
    return (
        f"this image {found}; k8s-parsl supports {wanted}: pip install parsl=={PARSL_RELEASES[-1]}"
    )
