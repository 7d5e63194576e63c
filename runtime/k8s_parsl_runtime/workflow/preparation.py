"""What is checked before any worker pod is created: volumes, user's code, working directory.

The code is read, not run: a missing file, a syntax error or a misspelt function is found within
milliseconds. What only an import can show, the kernel finds.
"""

from __future__ import annotations

import ast
import codecs
from pathlib import Path

from k8s_parsl_runtime.shared import userpath, volumes, workdir
from k8s_parsl_runtime.shared.errors import ExitCode, Failure, UsageError, WorkflowFailed, one_line
from k8s_parsl_runtime.shared.protocol import LINKED, TEXT_CHARACTERS, Message
from k8s_parsl_runtime.shared.volumes import Mount

# What a file that is no Python script is, by the end of its name, and what to do.
BY_BASH_APP = "start it by a bash_app in a Python script"
OTHER_KINDS = {
    ".ipynb": ("a Jupyter notebook", "make a script of it: jupyter nbconvert --to script"),
    ".jl": ("a Julia script", BY_BASH_APP),
    ".nf": ("a Nextflow workflow", "the workflow has to be a Python script"),
    ".pyc": ("compiled Python", "give the script that it was compiled from"),
    ".r": ("an R script", BY_BASH_APP),
    ".sh": ("a shell script", BY_BASH_APP),
    ".smk": ("a Snakemake workflow", "the workflow has to be a Python script"),
}
# Functions that may define any name, as `globals()["name"] = …` does.
BINDING = ("globals", "exec", "setattr", "vars")


def look(order: Message) -> Message:
    """Do what the launcher's message `prepare` asks for; return the answer to it.

    Args:
        order: `mounts` ([path, read only, key] of each), `code` (call, script, path), `work` (the
            working directory) and `again` (whether an older run may have used that).
    """
    try:
        volumes.check(Mount(*mount) for mount in order["mounts"])
        check_code(**order["code"])
        work = Path(order["work"])
        workdir.make(work)
        data = Path(userpath.of_code(**order["code"])[0])
        if order.get("again"):
            found = workdir.bring_again(data, work)
        else:
            found = workdir.Brought(workdir.bring(data, work), [], [])
    except Failure as failure:
        return _refusal(failure.exit_code, str(failure))
    except OSError as error:
        text = f"{order['code']['path']}: {error.filename}: {error.strerror}"
        return _refusal(ExitCode.PERMISSION, one_line(text))
    names = {key: value[:LINKED] for key, value in found._asdict().items()}
    return {"type": "ready", **names}


def _refusal(code: int, text: str) -> Message:
    return {"type": "ready", "fault": {"code": int(code), "text": text[:TEXT_CHARACTERS]}}


def check_code(call: str, script: str, path: str) -> None:
    """Look for the code without running it.

    Raises:
        UsageError: there is no such file, module or function.
        WorkflowFailed: it is not Python, or hides a module of Python's own.
    """
    if script:
        _check_script(Path(path) / script)
    else:
        _check_function(call, Path(path))
    if why := userpath.hiding(userpath.of_code(call, script, path)):
        raise WorkflowFailed(why)


def _check_script(file: Path) -> None:
    if file.is_dir():
        raise UsageError(f"workflow.script: {file} is a folder: name the script in it")
    if not file.is_file():
        raise UsageError(f"workflow.script: there is no file {file}")
    what, to_do = _other_kind(file)
    if what:
        raise UsageError(f"workflow.script: {file.name} is {what}: {to_do}")
    _parse(file, "workflow.script")


def _other_kind(file: Path) -> tuple[str, str]:
    """Return what a file is that is no Python script, and what to do; two empty texts if it is."""
    known = OTHER_KINDS.get(file.suffix.lower())
    if known:
        return known
    with file.open("rb") as script:
        first = script.readline(1000)
    if first.startswith(b"#!") and b"python" not in first:
        program = first.removeprefix(b"#!").decode(errors="replace").strip()
        return f"a script for {program}", BY_BASH_APP
    return "", ""


def _check_function(call: str, path: Path) -> None:
    """Look for a function in a module of the user's folder.

    A module elsewhere (in the image), or with names that only running it shows, is left to the
    import.
    """
    module, _, function = call.partition(":")
    file = path.joinpath(*module.split(".")).with_suffix(".py")
    if not file.is_file():
        return
    tree = _parse(file, f"workflow.call {call}: module {module} cannot be imported")
    names = _names(tree)
    if names is None or function in names:
        return
    functions = sorted(name for name in names if names[name] and not name.startswith("_"))
    have = ", ".join(functions) or "none"
    raise UsageError(f"workflow.call: module {module} has no function {function} (it has: {have})")


def _parse(file: Path, key: str) -> ast.Module:
    try:
        text = file.read_bytes()
        if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise WorkflowFailed(f"{key}: {file.name} is UTF-16: save it as UTF-8")
        return ast.parse(text, str(file))
    except SyntaxError as error:
        where = file.name if error.lineno is None else f"{file.name}, line {error.lineno}"
        raise WorkflowFailed(f"{key}: {type(error).__name__}: {error.msg} ({where})") from None
    except (ValueError, OSError) as error:
        raise WorkflowFailed(f"{key}: {file}: {type(error).__name__}: {error}") from None


def _names(tree: ast.Module) -> dict[str, bool] | None:
    """Return a module's names, and whether each is a function.

    None where reading alone does not show them all.
    """
    names: dict[str, bool] = {}
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            names[statement.name] = statement.name != "__getattr__"
        elif isinstance(statement, ast.ClassDef):
            names[statement.name] = False
        else:
            found = _bound(statement)
            if found is None:
                return None
            names |= dict.fromkeys(found, False)
    # A function may bind them, too.
    has_globals = any(isinstance(node, ast.Global) for node in ast.walk(tree))
    if has_globals or "__getattr__" in names:
        return None
    return names


def _bound(statement: ast.stmt) -> set[str] | None:
    """Return every name that a statement may bind, however deep; None for `from x import *`."""
    found: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            if "*" in names:
                return None
            found |= names
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(
            node,
            ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.MatchAs | ast.MatchStar,
        ):
            found.add(node.name or "_")
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in BINDING
        ):
            return None
    return found
