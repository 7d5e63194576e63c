"""What the folders beside this file are: scripts of different habits, for tests/runtime and
tests/cluster.

Each is run by plain Python with the Config that it makes itself, and by k8s-parsl; both have to
come to the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
# What a run leaves that is not the script's: Parsl's own folder, and byte code.
NOT_THEIRS = ("runinfo", "__pycache__")
# A line of Parsl's own, or of a traceback through Parsl and the standard library.
_FRAME = re.compile(r'^  File "(?!.*/run\.py").*\n(?:(?:    .*|\^+)\n)*', re.MULTILINE)
# In seconds; a test that needs more has found a fault.
PATIENCE_S = 120


@dataclass(frozen=True)
class Case:
    """One of the scripts."""

    name: str
    # Relative to its folder, with `/`.
    script: str = "run.py"
    # Where plain Python is started, relative to its folder.
    start: str = "."
    arguments: tuple[str, ...] = ()
    # Which lines of standard error are compared, where not all are: Parsl's differ.
    stderr: str = ""
    # Whether some frames of a traceback are another program's.
    frames: bool = False

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return HERE / self.name


_SPECIAL = [
    Case("encodings", script="my run.py"),
    Case("arguments", arguments=("Ada", "Grace Hopper", "--times=2", "-v")),
    Case("logging_debug", stderr=r"^(?!\w+ parsl|Config\(|    |\)|ThreadPool)"),
    Case("staging", arguments=("{url}",)),
    Case("subfolder", script="flows/run.py", start="flows"),
    Case("repository", script="scripts/run.py"),
    Case("uncaught_in_task", frames=True),
]


def _all() -> list[Case]:
    special = {case.name: case for case in _SPECIAL}
    return [
        special.get(folder.name, Case(folder.name))
        for folder in sorted(HERE.iterdir())
        if is_case(folder)
    ]


def is_case(folder: Path) -> bool:
    """Whether a folder holds a script."""
    return any(folder.glob("**/*run.py"))


CASES = _all()


@dataclass
class Told:
    """What a run came to."""

    status: int
    stdout: str
    stderr: str
    files: dict[str, bytes] = field(default_factory=dict)


def copied(case: Case, target: Path) -> Path:
    """A copy of its folder."""
    return shutil.copytree(case.folder, target, ignore=shutil.ignore_patterns(*NOT_THEIRS))


def plain(case: Case, folder: Path, url: str = "") -> Told:
    """Run it by `python script.py` in a copy of its folder."""
    copied(case, folder)
    start = folder / case.start
    words = [os.path.relpath(folder / case.script, start), *arguments(case, url)]
    # Parsl looks for its own programs there.
    environment = os.environ | {
        "PLAIN": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    # Not to pipes: without `cleanup` Parsl leaves processes behind that hold them open.
    said = [folder.with_name(f"{folder.name}.{name}") for name in ("out", "err")]
    with said[0].open("wb") as out, said[1].open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=start,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            code = process.wait(PATIENCE_S)
        finally:
            _end_session(process.pid)
    stdout, stderr = (path.read_bytes().decode() for path in said)
    status = code if code >= 0 else 128 - code
    return Told(status, stdout, comparable(case, stderr, folder), files(start, case, folder))


def _end_session(session: int) -> None:
    """End what a process left behind, in any process group."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                os.kill(int(stat.parent.name), signal.SIGKILL)


def arguments(case: Case, url: str) -> list[str]:
    """Its arguments; ``url`` is that of a file on a web server."""
    return [word.format(url=url) for word in case.arguments]


def comparable(case: Case, stderr: str, folder: Path) -> str:
    """The lines of standard error that have to be the same."""
    text = re.sub(r" at 0x[0-9a-f]+", " at 0x…", stderr.replace(f"{folder}/", "<folder>/"))
    if case.stderr:
        text = "".join(
            line for line in text.splitlines(keepends=True) if re.search(case.stderr, line)
        )
    if case.frames:
        text = _FRAME.sub("", text)
    return text


def files(folder: Path, case: Case, code: Path) -> dict[str, bytes]:
    """What it made, by name; what lies beside it from the start is left out. ``code`` is where it
    was run from.
    """
    given = [path.read_bytes() for path in case.folder.rglob("*") if path.is_file()]
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part in NOT_THEIRS for part in name.parts):
            content = path.read_bytes().replace(f"{code}/".encode(), b"<folder>/")
            if content not in given:
                found[str(name)] = content
    return found
