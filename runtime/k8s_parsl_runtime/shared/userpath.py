"""The user's own folders on the module path, as `python script.py` would have them.

Our processes start without them (`python -P`, no PYTHONPATH): they first import the standard
library and Parsl, with any names of the user's files. Then the folders go first on the path.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from types import FrameType

# Hands the folders to a process of ours, in place of PYTHONPATH.
VARIABLE = "K8S_PARSL_PATH"
# Parts of the path of a file that is not the user's own code.
LIBRARIES = ("site-packages", "dist-packages")
STDLIB = sysconfig.get_path("stdlib")
NOT_THEIRS = (*LIBRARIES, "k8s_parsl", STDLIB)
# Python has imported these before it looks at any folder of the user's.
AT_STARTUP = (
    "_collections_abc",
    "_sitebuiltins",
    "abc",
    "codecs",
    "encodings",
    "genericpath",
    "io",
    "os",
    "posixpath",
    "site",
    "sitecustomize",
    "stat",
    "usercustomize",
)


def clean(environment: dict[str, str], folders: Iterable[str]) -> dict[str, str]:
    """Return the environment for one of our Python processes, in which `put` adds the folders.

    Args:
        environment: of this process; its PYTHONPATH becomes a part of the folders.
        folders: the user's, which come first.
    """
    before = environment.get(VARIABLE) or environment.get("PYTHONPATH", "")
    path = _unique([*folders, *before.split(os.pathsep)])
    cleaned = environment | {VARIABLE: os.pathsep.join(path)}
    cleaned.pop("PYTHONPATH", None)
    return cleaned


def _unique(folders: Iterable[str]) -> list[str]:
    """Return the folders in order, each once, without empty names."""
    return list(dict.fromkeys(filter(None, folders)))


def is_theirs(file: str) -> bool:
    """Return whether a frame's file is the user's own code: no library's and not k8s-parsl's."""
    return not file.startswith("<") and not any(part in file for part in NOT_THEIRS)


def place(frame: FrameType | None) -> str:
    """Return the innermost line of the user's own code, as ` in flow.py:12`; empty for none."""
    while frame:
        file = frame.f_code.co_filename
        if is_theirs(file):
            return f" in {PurePosixPath(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def is_pythons(file: str) -> bool:
    """Return whether a frame's file is part of the standard library."""
    return file.startswith(("<frozen ", STDLIB)) and not any(part in file for part in LIBRARIES)


def of_code(call: str, script: str, path: str) -> list[str]:
    """Return the folders where Python looks for the user's imports.

    The first is the folder of the code itself, with its data.

    Args:
        call: `workflow.call`, or empty.
        script: `workflow.script`, relative to ``path``, or empty.
        path: `workflow.path`.
    """
    own = path if call else str(Path(path, script).parent)
    return list(dict.fromkeys([own, path]))


def put() -> list[str]:
    """Put the folders first on this process's path, and into PYTHONPATH for its children.

    Returns:
        The folders.
    """
    folders = _unique(os.environ.pop(VARIABLE, "").split(os.pathsep))
    if folders:
        os.environ["PYTHONPATH"] = os.pathsep.join(folders)
    others = [folder for folder in sys.path if folder not in folders]
    sys.path[:] = [*folders, *others]
    return folders


def hiding(folders: Iterable[str]) -> str:
    """Return what to rename: a file of the user's that hides a module which Parsl imports.

    With `python script.py` Parsl's own import would find that file, and end with an error of
    Parsl's or Python's.
    """
    never_hidden = {*AT_STARTUP, *sys.builtin_module_names, "__main__"}
    loaded = {name.partition(".")[0] for name in sys.modules} - never_hidden
    for folder in folders:
        for name in sorted(loaded):
            if file := _module_file(Path(folder), name):
                return f"{file} has the name of the module {name}, which Parsl imports: rename it"
    return ""


def _module_file(folder: Path, name: str) -> Path | None:
    """Return the file that an import of ``name`` would find in a folder."""
    for file in (folder / f"{name}.py", folder / name / "__init__.py"):
        if file.is_file():
            return file
    return None
