"""What the end of the workflow's process means for the run: exit code and message."""

from __future__ import annotations

import pytest

from k8s_parsl.run.messages import Ended
from k8s_parsl.run.outcome import SHOWN_CHARACTERS, Told, last, of_process
from k8s_parsl_runtime.shared import signals
from k8s_parsl_runtime.shared.errors import ExitCode

LIMIT = "launcher.pod.resources.limits.memory"
OOM = f"OOMKilled: the workflow used more memory than it may: raise {LIMIT}"
LINES = ["loading", "no such file"]
RETURNED = Told(returned=True, result={"land": 1})
RAISED = Told(raised="ValueError: no (flow.py:3)")


def ended(status=0, name="", **more):
    """A signal shows in the status as in a shell."""
    return Ended(
        **{
            "type": "ended",
            "status": status,
            "signal": name,
            "asked": False,
            "out_of_memory": False,
        }
        | more
    )


def crash(status, name, hint=""):
    said = f"the workflow's process was ended by {name}{hint}; its last line: no such file"
    return ended(status, name, lines=LINES), Told(), ExitCode.WORKFLOW, said


COMPILED = " (a crash in compiled code)"
ENDS = {
    "raised": (
        ended(1, lines=LINES),
        RAISED,
        ExitCode.WORKFLOW,
        "the workflow raised ValueError: no (flow.py:3)",
    ),
    "sys.exit with a number": (
        ended(3, lines=LINES),
        Told(raised="SystemExit: 3"),
        ExitCode.WORKFLOW,
        "the workflow raised SystemExit: 3",
    ),
    "a status, and no more": (
        ended(3, lines=LINES),
        Told(),
        ExitCode.WORKFLOW,
        "the workflow ended with exit status 3; its last line: no such file",
    ),
    "a status, and no line": (
        ended(255, lines=[]),
        Told(),
        ExitCode.WORKFLOW,
        "the workflow ended with exit status 255",
    ),
    # Of an exit handler: the result is of no use.
    "a status after it returned": (
        ended(4, lines=[]),
        RETURNED,
        ExitCode.WORKFLOW,
        "the workflow ended with exit status 4",
    ),
    "an exit code of ours": (
        ended(78, lines=[]),
        Told(),
        ExitCode.WORKFLOW,
        "the workflow ended with exit status 78",
    ),
    "SIGSEGV": crash(139, "SIGSEGV", COMPILED),
    "SIGABRT": crash(134, "SIGABRT", COMPILED),
    "SIGILL": crash(132, "SIGILL", " (compiled for another kind of CPU)"),
    "SIGBUS": crash(135, "SIGBUS", f" ({signals._HINTS['SIGBUS']})"),
    "SIGKILL": crash(137, "SIGKILL", " (from outside, or its node ran out of memory)"),
    "SIGTERM by itself": crash(143, "SIGTERM"),
    "SIGALRM": crash(142, "SIGALRM"),
    "a signal after it returned": (
        ended(139, "SIGSEGV", lines=[]),
        RETURNED,
        ExitCode.WORKFLOW,
        f"the workflow's process was ended by SIGSEGV{COMPILED}",
    ),
    "out of memory": (
        ended(137, "SIGKILL", out_of_memory=True, lines=LINES),
        Told(),
        ExitCode.WORKFLOW,
        OOM,
    ),
    # The kernel killed a process below it, and it gave up of that.
    "out of memory below it": (
        ended(1, out_of_memory=True, lines=LINES),
        RAISED,
        ExitCode.WORKFLOW,
        OOM,
    ),
    "out of memory, without a word": (
        ended(0, out_of_memory=True, lines=[]),
        Told(),
        ExitCode.WORKFLOW,
        OOM,
    ),
    "out of memory at its very end": (
        ended(137, "SIGKILL", out_of_memory=True, lines=[]),
        RETURNED,
        ExitCode.WORKFLOW,
        OOM,
    ),
    "asked, by SIGTERM": (
        ended(143, "SIGTERM", asked=True, lines=LINES),
        Told(),
        ExitCode.STOPPED,
        "SIGTERM: the run was stopped from outside",
    ),
    "asked, by SIGKILL": (
        ended(137, "SIGKILL", asked=True, lines=[]),
        Told(),
        ExitCode.STOPPED,
        "SIGKILL: the run was stopped from outside",
    ),
    # Never 0, or the Job would count as complete.
    "asked, and ended well": (
        ended(0, asked=True, lines=[]),
        RETURNED,
        ExitCode.STOPPED,
        "SIGTERM: the run was stopped from outside",
    ),
    "asked, and raised of it": (
        ended(1, asked=True, lines=[]),
        RAISED,
        ExitCode.STOPPED,
        "SIGTERM: the run was stopped from outside",
    ),
}


@pytest.mark.parametrize(("end", "told", "code", "message"), ENDS.values(), ids=ENDS)
def test_an_end_that_no_good_run_has(end, told, code, message):
    """One line says why.

    The process's own status is kept, and so are its last lines. No result goes with it.
    """
    outcome = of_process(end, told, LIMIT)
    assert (outcome.failure.exit_code, str(outcome.failure)) == (code, message)
    assert (outcome.status, outcome.lines, outcome.result) == (end.status, end.lines, None)


@pytest.mark.parametrize(
    ("end", "told", "result"),
    [
        (ended(0, lines=LINES), RETURNED, {"land": 1}),
        (ended(0, lines=[]), Told(returned=True), None),
        # os._exit(0): as Python, which asks no more of it.
        (ended(0, lines=[]), Told(), None),
        # A process below it ran out of memory, and the workflow did without.
        (ended(0, out_of_memory=True, lines=[]), RETURNED, {"land": 1}),
    ],
)
def test_a_good_end(end, told, result):
    outcome = of_process(end, told, LIMIT)
    assert (outcome.failure, outcome.result, outcome.status, outcome.lines) == (
        None,
        result,
        0,
        end.lines,
    )


def test_of_a_long_line_the_message_has_its_beginning():
    assert last(["x" * 1000]) == f"; its last line: {'x' * SHOWN_CHARACTERS}"
    assert last([]) == ""
