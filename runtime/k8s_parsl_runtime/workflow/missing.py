"""Where a module that is missing has to be installed: in the image, or on a laptop in the
workflow's environment.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from k8s_parsl_runtime.shared.programs import on_laptop

# Packages that are called otherwise than the module that scientists import from them.
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
    """Return what should have had a module: the image, or the interpreter on a laptop."""
    return sys.executable if on_laptop() else "the image"


def path_advice() -> str:
    """Return how to name the folder of the code on a laptop; nothing in a pod, where the values say
    it.
    """
    return " (--path names the folder of your code)" if on_laptop() else ""


def advice(module: str) -> str:
    """Return where and how to install the package of a module."""
    top = module.partition(".")[0]
    package = PACKAGES.get(top, top)
    if not on_laptop():
        return f"install {package} in the image, of the workflow and of the workers (docs/user/own-workflow.md#images)"
    return f"{shlex.quote(sys.executable)} -m pip install {package}, or name another Python with --python"


def hint(error: BaseException, folders: Iterable[str]) -> str:
    """Return what to do, where a missing module is what ``error`` comes of; nothing for one of the
    user's own.
    """
    name = next(filter(None, map(_missing, _causes(error))), "")
    top = name.partition(".")[0]
    if not name or any(
        Path(folder, top).is_dir() or Path(folder, f"{top}.py").is_file() for folder in folders
    ):
        return ""
    return f"; {advice(name)}"


def _missing(error: BaseException) -> str:
    if not isinstance(error, ModuleNotFoundError):
        return ""
    said = re.search(r"No module named '([\w.]+)'", str(error))
    return error.name or (said[1] if said else "")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, and those that it comes of, through Parsl's own of a task that another
    one waits for.
    """
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
        waiting += [
            one.__cause__,
            *(each[0] for each in getattr(one, "dependent_exceptions_tids", ())),
        ]
