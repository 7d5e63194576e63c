"""A command of k8s-parsl in its own process, which begins as a copy of the test's.

That saves the imports, which take most of a short command's time. How a fresh process starts is
what `test_command_line` and `test_signals` are about.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import BinaryIO, NoReturn

from k8s_parsl.__main__ import main


def command(*words: object, cwd: Path) -> tuple[int, str, str]:
    """Run a command; return its exit code, and what it printed on both streams."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with warnings.catch_warnings():
            # Of other threads, which the copy does not have.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _become([str(word) for word in words], cwd, out, err)
        _, status = os.waitpid(pid, 0)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
    return os.waitstatus_to_exitcode(status), texts[0], texts[1]


def _become(words: list[str], cwd: Path, out: BinaryIO, err: BinaryIO) -> NoReturn:
    """Be the command, as a fresh process is."""
    try:
        os.chdir(cwd)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 0)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        sys.argv = ["k8s-parsl", *words]
        main()
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        os._exit(255)
