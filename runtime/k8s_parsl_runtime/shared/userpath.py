"""The user's own folders on the module path, as `python script.py` would have them.

Our processes start without them (`python -P`, no PYTHONPATH): what they import for themselves is
the standard library's and Parsl's, whatever the user's files are called. Then the folders come
first.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

# How a process hands the folders to the ones that it starts, apart from PYTHONPATH.
VARIABLE = "K8S_PARSL_PATH"
# In the path of a file that is not the user's own code.
LIBRARIES = ("site-packages", "dist-packages")
STDLIB = sysconfig.get_path("stdlib")
NOT_THEIRS = (*LIBRARIES, "k8s_parsl", STDLIB)
# Python has imported these before it looks at any folder of the user's.
AT_STARTUP = (
    *(
        "_collections_abc",
        "_sitebuiltins",
        "abc",
        "codecs",
        "encodings",
        "genericpath",
        "io",
        "os",
        "posixpath",
    ),
    *("site", "sitecustomize", "stat", "usercustomize"),
)


def clean(environment: dict[str, str], folders: Iterable[str]) -> dict[str, str]:
    """Return the environment in which one of our Python processes starts; `put` then adds the
    folders there.
    """
    before = environment.get(VARIABLE) or environment.get("PYTHONPATH", "")
    parts = [*folders, *before.split(os.pathsep)]
    path = os.pathsep.join(dict.fromkeys(part for part in parts if part))
    return {key: value for key, value in environment.items() if key != "PYTHONPATH"} | {
        VARIABLE: path
    }


def is_theirs(file: str) -> bool:
    """Return whether a frame's file is the user's own code: no library's, and none of ours."""
    return not file.startswith("<") and not any(part in file for part in NOT_THEIRS)


def is_pythons(file: str) -> bool:
    """Return whether a frame's file is of the standard library."""
    return file.startswith(("<frozen ", STDLIB)) and not any(part in file for part in LIBRARIES)


def of_code(call: str, script: str, path: str) -> list[str]:
    """Return the folders that the user's imports are looked for in: the one of the code itself
    first, with its data.

    Args:
        call: `workflow.call`, or empty.
        script: `workflow.script`, relative to ``path``, or empty.
        path: `workflow.path`.
    """
    own = path if call else str(Path(path, script).parent)
    return list(dict.fromkeys([own, path]))


def put() -> list[str]:
    """Put the folders first on this process's path and into PYTHONPATH, for its children; return
    them.
    """
    folders = list(
        dict.fromkeys(folder for folder in os.environ.pop(VARIABLE, "").split(os.pathsep) if folder)
    )
    if folders:
        os.environ["PYTHONPATH"] = os.pathsep.join(folders)
    sys.path[:] = [*folders, *(folder for folder in sys.path if folder not in folders)]
    return folders


def hiding(folders: Iterable[str]) -> str:
    """Return what is wrong where a file of the user's has the name of a module that Parsl itself
    imports.

    With `python script.py` Parsl's own import would find that file; the error is then one of
    Parsl's or Python's.
    """
    theirs_too = {*AT_STARTUP, *sys.builtin_module_names, "__main__"}
    loaded = {name.partition(".")[0] for name in sys.modules} - theirs_too
    for folder in folders:
        for name in sorted(loaded):
            for file in (Path(folder, f"{name}.py"), Path(folder, name, "__init__.py")):
                if file.is_file():
                    return (
                        f"{file} has the name of the module {name}, which Parsl imports: rename it"
                    )
    return ""
