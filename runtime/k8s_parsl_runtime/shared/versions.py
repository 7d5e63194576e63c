"""Which Python and Parsl an environment has, and which ones this runtime supports."""

from __future__ import annotations

import shlex
import sys
from importlib import metadata

from k8s_parsl_runtime.shared.programs import on_laptop

# Releases whose insides were read: tests/runtime/test_parsl_contract.py runs against each of them.
PARSL_RELEASES = ("2026.10.26",)


def versions() -> str:
    """Return the versions of Python and Parsl, as `py3.11/parsl2026.10.26`.

    They have to be the same in the workflow container and in its workers. Without Parsl the second
    half is `parsl`.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"py{python}/parsl{parsl_release()}"


def parsl_release() -> str:
    """Return the installed release of Parsl, without an import of it; empty without Parsl."""
    try:
        return metadata.version("parsl")
    except metadata.PackageNotFoundError:
        return ""


def misfit() -> str:
    """Return why this environment cannot run the runtime, in one line; empty where it can."""
    release = parsl_release()
    if release in PARSL_RELEASES:
        return ""
    has = f"has Parsl {release}" if release else "has no Parsl"
    wanted = " or ".join(PARSL_RELEASES)
    latest = PARSL_RELEASES[-1]
    if not on_laptop():
        return f"this image {has}; k8s-parsl supports {wanted}: pip install parsl=={latest}"
    python = shlex.quote(sys.executable)
    return (
        f"{sys.executable} (laptop.python, --python) {has}; k8s-parsl supports {wanted}: "
        f"{python} -m pip install parsl=={latest}"
    )
