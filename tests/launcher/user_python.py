"""The Python of a user's image: it has Parsl, but neither the launcher nor Kubernetes' client."""

from __future__ import annotations

import sysconfig
import venv
from pathlib import Path

MISSING = ("kubernetes",)
"""Packages of the tests that it does not have; Parsl imports this one, if it is there."""


def make(folder: Path) -> Path:
    """Make an environment with our packages, without our editable installs; return its Python."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    hide = f"import sys; sys.modules.update(dict.fromkeys({MISSING}))"
    (packages / "user.pth").write_text(f"{sysconfig.get_path('purelib')}\n{hide}\n")
    return folder / "bin" / "python"
