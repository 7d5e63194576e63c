"""The user's code: found and checked before anything starts, called when Parsl is loaded.

A wrong module, function or argument is known within seconds, and no worker pod is made for it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import runpy
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from k8s_parsl import settings
from k8s_parsl.dataflow import no_load
from k8s_parsl.errors import Failure, UsageError, WorkflowFailed, one_line

Call = Callable[[], Any]
# In the path of a file that is not the user's own code.
NOT_THEIRS = ("site-packages", "k8s_parsl", sysconfig.get_path("stdlib"))


def prepare(workflow: settings.Workflow, path: Path, folders: Mapping[str, Path]) -> Call:
    """The workflow as a call without arguments; its module is imported here, a plain script is only found.

    ``path`` is put on the module path, of this process and of its children. ``folders`` says for each mount path
    which folder stands for it (in a pod: itself), and string arguments below a mount path are changed likewise.

    Raises:
        UsageError: no such module, function or script, or the arguments do not fit; names the key.
        WorkflowFailed: the module raised while it was imported.
    """
    _put_on_path(path)
    if workflow.script:
        return _script(path / workflow.script, list(workflow.args))
    return _function(workflow, path, relocate(workflow.kwargs, folders))


def _put_on_path(folder: Path) -> None:
    """For this process, and by the environment for its children (interchange, workers of a laptop)."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    before = os.environ.get("PYTHONPATH")
    if str(folder) not in (before or "").split(os.pathsep):
        os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{before}" if before else str(folder)


def relocate(value: Any, folders: Mapping[str, Path]) -> Any:
    """``value`` with every string that is a path at or below a mount path moved to that volume's folder."""
    if isinstance(value, Mapping):
        return {key: relocate(item, folders) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [relocate(item, folders) for item in value]
    if isinstance(value, str) and value.startswith("/"):
        for mount_path, folder in folders.items():
            if PurePosixPath(value).is_relative_to(mount_path):
                return str(folder / PurePosixPath(value).relative_to(mount_path))
    return value


def _function(workflow: settings.Workflow, path: Path, kwargs: dict[str, Any]) -> Call:
    module_name, _, name = workflow.call.partition(":")
    module = _import(module_name, path, f"workflow.call {workflow.call}")
    function = getattr(module, name, None)
    if not callable(function):
        have = ", ".join(_functions(module))
        raise UsageError(f"workflow.call: module {module_name} has no function {name} (it has: {have or 'none'})")
    try:
        inspect.signature(function).bind(**kwargs)
    except TypeError as error:
        raise UsageError(f"workflow.kwargs: {workflow.call}: {error}") from None
    return lambda: function(**kwargs)


def _functions(module: ModuleType) -> list[str]:
    """The names that may be meant: not private, and not what the module itself imports."""
    return sorted(
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    )


def _import(name: str, path: Path, key: str) -> ModuleType:
    try:
        with no_load(key):
            return importlib.import_module(name)
    except Failure:
        raise
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"{key}: there is no module {error.name} in {path} or in the image") from None
        raise UsageError(f"{key}: module {name} imports {error.name}, which the image does not have") from None
    except Exception as error:
        raise WorkflowFailed(f"{key}: module {name} cannot be imported: {describe(error)}") from error


def _script(script: Path, args: list[str]) -> Call:
    """A script with a `main()` is imported under its own name, so that workers find its helpers; others just run."""
    if not script.is_file():
        raise UsageError(f"workflow.script: there is no file {script}")
    try:
        tree = ast.parse(script.read_bytes(), str(script))
    except (SyntaxError, ValueError) as error:
        raise WorkflowFailed(f"workflow.script: {script}: {describe(error)}") from error
    _put_on_path(script.parent)
    has_main = any(_is_main(statement) for statement in tree.body)

    def run() -> Any:
        sys.argv = [str(script), *args]
        if has_main:
            return importlib.import_module(script.stem).main()
        return runpy.run_path(str(script), run_name="__main__").get("result")

    return run


def _is_main(statement: ast.stmt) -> bool:
    """`def main():` that can be called without arguments."""
    if not isinstance(statement, ast.FunctionDef) or statement.name != "main":
        return False
    wanted = statement.args
    return len(wanted.posonlyargs) + len(wanted.args) == len(wanted.defaults) and None not in wanted.kw_defaults


def describe(error: BaseException) -> str:
    """An exception in one line, with the line of the user's code it came from, and the notes on it and its causes."""
    where = ""
    frame = error.__traceback__
    while frame:
        file = frame.tb_frame.f_code.co_filename
        if not file.startswith("<") and not any(part in file for part in NOT_THEIRS):
            where = f" ({PurePosixPath(file).name}:{frame.tb_lineno})"
        frame = frame.tb_next
    notes = ""
    cause: BaseException | None = error
    while cause:
        notes += "".join(f"; {note}" for note in getattr(cause, "__notes__", []))
        cause = cause.__cause__
    return one_line(f"{type(error).__name__}: {error}{where}{notes}")
