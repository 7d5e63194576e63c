"""Everything that can go wrong, as one class for each exit code.

Exit codes are an interface (docs/dev/architecture.md, "Exit codes"): the Job's ``podFailurePolicy``
decides on them whether a new launcher may help. Each message is one line that names the key or the
object to change. Numbers 64 to 78 are those of sysexits.h; 143 is 128 + SIGTERM, as a shell reports
it.
"""

from __future__ import annotations

import enum
import sys
from pathlib import Path

from k8s_parsl_runtime.shared.deadlines import safely

# Kubelet reads this file when the container ends: `kubectl describe pod` then shows the reason
# without any log.
# https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
TERMINATION_LOG = Path("/dev/termination-log")
TERMINATION_LOG_BYTES = 4096
# A line of ours is cut here: what comes from outside may be in it, and may be of any length.
LINE_CHARACTERS = 10_000
# What an exception of the user's own has for its text.
TEXT_S = 10.0


class ExitCode(enum.IntEnum):
    """What a launcher's or a worker's end means to the Job that runs it."""

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
    """A mounted file that cannot be read or parsed."""

    exit_code = ExitCode.DATA


class Unavailable(Failure):
    """A service (API server, Vault) that does not answer."""

    exit_code = ExitCode.UNAVAILABLE


class Temporary(Failure):
    """Something that a new launcher may well not meet again."""

    exit_code = ExitCode.TEMPORARY


class PermissionDenied(Failure):
    """RBAC, Vault or the file system said no."""

    exit_code = ExitCode.PERMISSION


class ConfigurationError(Failure):
    """The cluster cannot run what the values ask for, and trying again changes nothing."""

    exit_code = ExitCode.CONFIGURATION


class Stopped(Failure):
    """SIGTERM or SIGINT: somebody ended the run from outside. Never 0, or the Job would count as
    complete.
    """

    exit_code = ExitCode.STOPPED


def failure(code: int, text: str) -> Failure:
    """Return the failure of this exit code; an unknown one is an internal error."""
    return _BY_CODE.get(code, Failure)(text)


_BY_CODE: dict[int, type[Failure]] = {
    kind.exit_code: kind
    for kind in (
        *(WorkflowFailed, UsageError, DataError, Unavailable, Temporary),
        *(PermissionDenied, ConfigurationError, Stopped),
    )
}


def one_line(text: str) -> str:
    """``text`` with every run of white space (newlines too) folded into one space, and nothing a
    terminal acts on.
    """
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """``text`` with control characters as Python writes them: a terminal would act on them."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def bounded(text: str, most: int = LINE_CHARACTERS) -> str:
    """``text`` printable, on one line, and cut after ``most`` characters, which it says."""
    # Cut before, too: a megabyte of control characters is not worth the time.
    shown = printable(text[:most])
    if len(text) <= most and len(shown) <= most:
        return shown
    return f"{shown[:most]}… (cut here: it has {len(text)} characters)"


def describe(error: BaseException) -> str:
    """Return an exception in one line, `Type: text`, whatever its own `__str__` does."""
    name = type(error).__name__

    def without(why: BaseException) -> str:
        return f"{name} (its text cannot be made: {why if type(why) is TimeoutError else type(why).__name__})"

    return one_line(safely(lambda: f"{name}: {error}".removesuffix(": "), without, TEXT_S))


def text_of(value: object) -> str:
    """Return the text of an object of the user's, whatever its own `__str__` does."""
    return safely(
        lambda: str(value), lambda _: f"({type(value).__name__}, which cannot be shown)", TEXT_S
    )


def exit_status(end: SystemExit) -> int:
    """Return the exit status that Python gives `sys.exit`; a text goes to standard error, as Python
    does.
    """
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 0xFF
    print(text_of(end.code), file=sys.stderr)  # noqa: T201
    return 1


def last_word(message: str, code: int) -> int:
    """Leave the program's last line, on standard error and for kubelet; return its exit code."""
    message = bounded(one_line(message))
    print(f"k8s-parsl: {message}", file=sys.stderr)  # noqa: T201
    write_termination_message(message)
    return int(code)


def write_termination_message(message: str, path: Path = TERMINATION_LOG) -> None:
    """Leave ``message`` where kubelet picks it up; outside a pod there is no such file and nothing
    is done.
    """
    if not path.is_file():
        return
    content = message.encode(errors="replace")
    if len(content) > TERMINATION_LOG_BYTES:
        mark = "…".encode()
        content = (
            content[: TERMINATION_LOG_BYTES - len(mark)].decode(errors="ignore").encode() + mark
        )
    path.write_bytes(content)
