"""Where to install a missing module: in the image, or on a laptop in the user's environment."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from k8s_parsl_runtime.shared.programs import on_laptop

# By module, the package that has it under another name; those that scientists import.
PACKAGES = {
    "Bio": "biopython",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "git": "GitPython",
    "mpl_toolkits": "matplotlib",
    "osgeo": "gdal",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


def place() -> str:
    """Return what lacks a module: the image, or the interpreter on a laptop."""
    return sys.executable if on_laptop() else "the image"


def path_advice() -> str:
    """Return how to name the folder of the code on a laptop; empty in a pod, where a value does."""
    return " (--path names the folder of your code)" if on_laptop() else ""


def advice(module: str) -> str:
    """Return where and how to install the package of a module."""
    top = module.partition(".")[0]
    package = PACKAGES.get(top, top)
    if not on_laptop():
        return (
            f"install {package} in the image, of the workflow and of the workers"
            " (docs/user/own-workflow.md#images)"
        )
    python = shlex.quote(sys.executable)
    return f"{python} -m pip install {package}, or name another Python with --python"


def hint(error: BaseException, folders: Iterable[str]) -> str:
    """Return what to do where a missing module is the cause of ``error``.

    Args:
        error: an exception of the user's code.
        folders: those of the user's code.

    Returns:
        The advice, after a semicolon; empty for another error, or for a module of the user's own.
    """
    name = next(filter(None, map(_missing, _causes(error))), "")
    if not name:
        return ""
    top = name.partition(".")[0]
    if any(_has_module(folder, top) for folder in folders):
        return ""
    return f"; {advice(name)}"


def _has_module(folder: str, name: str) -> bool:
    return Path(folder, name).is_dir() or Path(folder, f"{name}.py").is_file()


def _missing(error: BaseException) -> str:
    """Return the name of the module that an exception says is missing; empty for another one."""
    if not isinstance(error, ModuleNotFoundError):
        return ""
    if error.name:
        return error.name
    named = re.search(r"No module named '([\w.]+)'", str(error))
    return named[1] if named else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes, also those of a task that another one waits for."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        waiting.append(one.__cause__)
        waiting += [error for error, _ in getattr(one, "dependent_exceptions_tids", ())]
