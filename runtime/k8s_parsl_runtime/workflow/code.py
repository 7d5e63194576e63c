"""The user's code, run as Python would run it: `python script.py`, or a function of a module."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import gc
import importlib
import importlib.machinery
import inspect
import io
import sys
import types
from collections.abc import Mapping
from typing import Any

from k8s_parsl_runtime.shared.errors import Failure, UsageError, WorkflowFailed
from k8s_parsl_runtime.workflow import causes, missing


def run_script(script: str, arguments: list[str]) -> Any:
    """Run a script as `__main__`; return its result (see `result_of_script`)."""
    sys.argv = [script, *arguments]
    main = types.ModuleType("__main__")
    loader = importlib.machinery.SourceFileLoader("__main__", script)
    vars(main).update(
        __file__=script,
        __loader__=loader,
        __builtins__=builtins,
        __annotations__={},
        __cached__=None,
    )
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:
        # Spawned children of multiprocessing pickle what the script defines by this name.
        sys.modules["__mp_main__"] = main
    exec(loader.source_to_code(loader.get_data(script), script), vars(main))  # noqa: S102 (what this program is for)
    return result_of_script()


def result_of_script() -> Any:
    """Return the script's global `result`; None where it is a function or a module.

    The script may have ended by `sys.exit`.
    """
    result = vars(sys.modules["__main__"]).get("result")
    if callable(result) or issubclass(type(result), types.ModuleType):
        return None
    return result


def let_go() -> None:
    """Let go of the script, as Python does at its end: write open files, and call `__del__`."""
    # Before collecting, which may close what is below a file while the file has more to write.
    _write_files()
    for name in ("__main__", "__mp_main__"):
        sys.modules.pop(name, None)
    gc.collect()
    _write_files()


def _write_files() -> None:
    # By type, as a run of many tasks has many millions of objects of few types.
    is_file: dict[type, bool] = {}
    for one in gc.get_objects():
        kind = type(one)
        if kind not in is_file:
            is_file[kind] = _is_file(kind)
        if is_file[kind]:
            with contextlib.suppress(Exception):
                if not one.closed:
                    one.flush()


def _is_file(kind: type) -> bool:
    try:
        return issubclass(kind, io.IOBase)
    except Exception:  # noqa: BLE001 (a user's metaclass may raise anything)
        return False


def run_function(call: str, kwargs: Mapping[str, Any], path: str) -> Any:
    """Import a module and call one of its functions; return its result.

    Args:
        call: `module:function`.
        kwargs: the function's arguments.
        path: the folder of the code, for messages.

    Raises:
        UsageError: there is no such module or function, or the arguments do not fit; names the key.
        WorkflowFailed: the module raised while it was imported.
        BaseException: the function raised it.
    """
    name, _, function_name = call.partition(":")
    module = _import(name, path, f"workflow.call {call}")
    function = getattr(module, function_name, None)
    if not callable(function):
        have = ", ".join(_functions(module)) or "none"
        raise UsageError(
            f"workflow.call: module {name} has no function {function_name} (it has: {have})"
        )
    try:
        inspect.signature(function).bind(**kwargs)
    except TypeError as error:
        raise UsageError(f"workflow.kwargs: {call}: {error}") from None
    result = function(**kwargs)
    # Not `isinstance`, as of `inspect`: that asks the object's own `__class__`.
    kind = type(result)
    if issubclass(kind, types.GeneratorType | types.AsyncGeneratorType):
        raise UsageError(
            f"workflow.call: {call} is a generator (it has a `yield`): nothing in it has run; let"
            " it return a list"
        )
    if issubclass(kind, types.CoroutineType):
        return asyncio.run(result)
    return result


def _functions(module: types.ModuleType) -> list[str]:
    """Return the names of a module's own public functions."""
    names = []
    for name, value in vars(module).items():
        is_own = inspect.isfunction(value) and value.__module__ == module.__name__
        if is_own and not name.startswith("_"):
            names.append(name)
    return sorted(names)


def _import(name: str, path: str, key: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except Failure:
        raise
    except ModuleNotFoundError as error:
        raise _no_module(name, path, key, error) from None
    except Exception as error:
        raise WorkflowFailed(
            f"{key}: module {name} cannot be imported: {causes.describe(error)}"
        ) from error


def _no_module(name: str, path: str, key: str, error: ModuleNotFoundError) -> UsageError:
    """Return the error for a module that is missing: ``name`` itself, or one that it imports."""
    place = missing.place()
    is_itself = error.name and f"{name}.".startswith(f"{error.name}.")
    if not is_itself:
        hint = missing.hint(error, [path])
        return UsageError(
            f"{key}: module {name} imports {error.name}, which {place} does not have{hint}"
        )
    plain = f"; leave out .py: {name.removesuffix('.py')}" if name.endswith(".py") else ""
    return UsageError(
        f"{key}: there is no module {error.name} in {path}{missing.path_advice()} or in"
        f" {place}{plain}"
    )
