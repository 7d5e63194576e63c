"""Interpreters of this machine, and environments with exactly the packages of a test."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@functools.cache
def interpreter(version):
    """Return an interpreter of this version.

    pyenv's own commands come last, as they may name one that is not chosen.
    """
    found = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    for word in [*map(str, found), f"python{version}", "python3"]:
        path = shutil.which(word)
        told = (
            path
            and subprocess.run([path, "-c", SAY], capture_output=True, text=True).stdout.strip()
        )
        if told == version:
            return path
    return None


SAY = "import sys; print('%d.%d' % sys.version_info[:2])"
THIS = "{}.{}".format(*sys.version_info[:2])


@functools.cache
def environment(folder, version, *packages):
    """Return the interpreter of a new virtual environment with these packages, from pip's index."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on this machine")
    home = Path(
        folder, "-".join([version, *(word.strip("-").replace("!", "") for word in packages)])
    )
    subprocess.run(
        [python, "-m", "venv", "--without-pip", str(home)], check=True, capture_output=True
    )
    made = str(home / "bin" / "python")
    if packages:
        words = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            made,
            "install",
            "--quiet",
            "--no-input",
            *packages,
        ]
        subprocess.run(words, check=True, timeout=500)
    return made
