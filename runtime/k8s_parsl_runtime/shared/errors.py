"""Everything that can go wrong, as one class for each exit code.

Exit codes are an interface (docs/dev/architecture.md, "Exit codes"): the Job's ``podFailurePolicy``
decides by them whether a new launcher may help. Each message is one line that names the key or the
object to change. Numbers 64 to 78 are those of sysexits.h; 143 is 128 + SIGTERM, as a shell reports
it.
"""

from __future__ import annotations

import enum
import sys
from pathlib import Path

from k8s_parsl_runtime.shared.deadlines import safely

# Kubelet reads this file when the container ends, and `kubectl describe pod` shows its text.
# https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
TERMINATION_LOG = Path("/dev/termination-log")
TERMINATION_LOG_BYTES = 4096
# A line of ours is cut here: it may quote text from outside, which may be of any length.
LINE_CHARACTERS = 10_000
# How long an exception of the user's may take to make its text.
TEXT_S = 10.0


class ExitCode(enum.IntEnum):
    """What the end of a launcher or a worker means to the Job that runs it."""

    DONE = 0
    WORKFLOW = 1
    USAGE = 64
    DATA = 65
    UNAVAILABLE = 69
    INTERNAL = 70
    TEMPORARY = 75
    PERMISSION = 77
    CONFIGURATION = 78
    STOPPED = 143


class Failure(Exception):
    """A known end of a run; ``str()`` of it is the one line the user sees."""

    exit_code = ExitCode.INTERNAL

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class WorkflowFailed(Failure):
    """The user's own code raised."""

    exit_code = ExitCode.WORKFLOW


class UsageError(Failure):
    """A wrong command line or a wrong value in a values file."""

    exit_code = ExitCode.USAGE


class DataError(Failure):
    """A mounted file cannot be read or parsed."""

    exit_code = ExitCode.DATA


class Unavailable(Failure):
    """A service (API server, Vault) does not answer."""

    exit_code = ExitCode.UNAVAILABLE


class Temporary(Failure):
    """Something that a new launcher may not meet again."""

    exit_code = ExitCode.TEMPORARY


class PermissionDenied(Failure):
    """RBAC, Vault or the file system denied it."""

    exit_code = ExitCode.PERMISSION


class ConfigurationError(Failure):
    """The cluster cannot run what the values ask for; a retry does not help."""

    exit_code = ExitCode.CONFIGURATION


class Stopped(Failure):
    """SIGTERM or SIGINT ended the run from outside.

    Its exit code is never 0, or the Job would count as complete.
    """

    exit_code = ExitCode.STOPPED


def failure(code: int, text: str) -> Failure:
    """Return the failure of this exit code; an unknown code is an internal error."""
    kind = _BY_CODE.get(code, Failure)
    return kind(text)


_BY_CODE: dict[int, type[Failure]] = {
    ExitCode.WORKFLOW: WorkflowFailed,
    ExitCode.USAGE: UsageError,
    ExitCode.DATA: DataError,
    ExitCode.UNAVAILABLE: Unavailable,
    ExitCode.TEMPORARY: Temporary,
    ExitCode.PERMISSION: PermissionDenied,
    ExitCode.CONFIGURATION: ConfigurationError,
    ExitCode.STOPPED: Stopped,
}


def one_line(text: str) -> str:
    """Return ``text`` on one line, printable, with one space for each run of white space."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Return ``text`` with control characters as Python writes them: a terminal acts on them."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def bounded(text: str, most: int = LINE_CHARACTERS) -> str:
    """Return ``text`` on one line, printable, and cut after ``most`` characters, with a note."""
    # Cut first: to make a megabyte of control characters printable takes long.
    shown = printable(text[:most])
    if len(text) <= most and len(shown) <= most:
        return shown
    return f"{shown[:most]}… (cut here: it has {len(text)} characters)"


def describe(error: BaseException) -> str:
    """Return an exception in one line, `Type: text`, also if its `__str__` raises."""
    name = type(error).__name__

    def with_text() -> str:
        return f"{name}: {error}".removesuffix(": ")

    def without_text(why: BaseException) -> str:
        reason = str(why) if type(why) is TimeoutError else type(why).__name__
        return f"{name} (its text cannot be made: {reason})"

    return one_line(safely(with_text, without_text, TEXT_S))


def text_of(value: object) -> str:
    """Return the text of an object of the user's, also if its `__str__` raises."""
    instead = f"({type(value).__name__}, which cannot be shown)"
    return safely(lambda: str(value), lambda _: instead, TEXT_S)


def exit_status(end: SystemExit) -> int:
    """Return the exit status of `sys.exit`; print a text to standard error, as Python does."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(text_of(end.code), file=sys.stderr)  # noqa: T201
    return 1


def last_word(message: str, code: int) -> int:
    """Print the program's last line, also for kubelet; return ``code``."""
    message = bounded(one_line(message))
    print(f"k8s-parsl: {message}", file=sys.stderr)  # noqa: T201
    write_termination_message(message)
    return int(code)


def write_termination_message(message: str, path: Path = TERMINATION_LOG) -> None:
    """Write ``message`` to the file that kubelet reads; outside a pod there is none."""
    if not path.is_file():
        return
    content = message.encode(errors="replace")
    if len(content) > TERMINATION_LOG_BYTES:
        mark = "…".encode()
        fits = content[: TERMINATION_LOG_BYTES - len(mark)]
        # Without the part of a character that the cut may have left.
        content = fits.decode(errors="ignore").encode() + mark
    path.write_bytes(content)
