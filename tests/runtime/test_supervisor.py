"""The workflow container's first process outlives the workflow, and says how that ended."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from k8s_parsl_runtime.shared.kept import Kept
from k8s_parsl_runtime.shared.protocol import PROTOCOL
from k8s_parsl_runtime.shared.versions import versions
from k8s_parsl_runtime.workflow import digest
from k8s_parsl_runtime.workflow.output import LAST_LINES, LINE_CHARACTERS, Output


def alive(pid):
    """A zombie is not: its new parent may be slow to collect it."""
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def until_dead(*pids, seconds=15):
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end, f"still there after {seconds} s: {pids}"
        time.sleep(0.02)


def test_it_greets_with_its_versions_before_anything_else(container):
    """The kernel greets on its own connection; it waits for its start with Parsl imported."""
    one = container().greet()
    assert one.hellos["supervisor"] == {
        "type": "hello",
        "role": "supervisor",
        "protocol": PROTOCOL,
        "versions": versions(),
    }
    assert one.hellos["kernel"] == {"type": "hello", "role": "kernel", "protocol": PROTOCOL}


def test_it_says_which_code_runs_after_its_answer(container, tmp_path):
    """The first worker pods wait for the answer, and not for the digest."""
    one = container().greet()
    (one.folder / "flow.py").write_text("def main(): pass\n")
    expected = digest.of_code(one.folder)
    answer = one.prepare(call="flow:main")
    assert answer["type"] == "ready" and "fault" not in answer
    assert one.next("supervisor", "code") == {"type": "code", "digest": str(expected)}


@pytest.mark.parametrize(
    ("text", "status", "signalled"),
    [
        ("", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('no input')", 1, ""),
        ("import sys; sys.exit(-1)", 255, ""),
        ("raise ValueError('this one')", 1, ""),
        ("raise KeyboardInterrupt", 130, ""),
        ("import os; os._exit(7)", 7, ""),
        ("import os; os._exit(0)", 0, ""),
        ("import faulthandler; faulthandler._sigsegv()", 139, "SIGSEGV"),
        ("import ctypes; ctypes.string_at(0)", 139, "SIGSEGV"),
        ("import os; os.abort()", 134, "SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "SIGKILL"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143, "SIGTERM"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 2)",
            128 + signal.SIGRTMIN + 2,
            "signal 36",
        ),
        (
            "import os, threading; threading.Thread(target=lambda: os._exit(9)).start(); input()",
            9,
            "",
        ),
    ],
)
def test_how_the_workflows_process_ends_is_reported(container, text, status, signalled):
    """The container's own exit status is as a shell has it."""
    one = container(stdin=subprocess.DEVNULL if "input" not in text else subprocess.PIPE).greet()
    one.start(text)
    ended = one.ended()
    assert (ended["status"], ended["signal"], ended["asked"]) == (status, signalled, False)
    assert not ended["out_of_memory"]
    assert one.process.wait(20) == status


def test_a_workflow_that_is_killed_from_outside(container):
    one = (
        container()
        .greet()
        .start("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)")
    )
    os.kill(int(one.line()), signal.SIGKILL)
    ended = one.ended()
    assert (ended["status"], ended["signal"], ended["asked"]) == (137, "SIGKILL", False)


def test_a_stop_and_its_end_are_reported(container):
    """A process that is stopped looks like one that hangs."""
    one = container().greet().start("import os, time\nprint(os.getpid(), flush=True)\ninput()")
    pid = int(one.line())
    os.kill(pid, signal.SIGSTOP)
    assert one.next("supervisor") == {"type": "stopped"}
    os.kill(pid, signal.SIGCONT)
    assert one.next("supervisor") == {"type": "continued"}
    os.kill(pid, signal.SIGSTOP)
    assert one.next("supervisor") == {"type": "stopped"}
    one.send("supervisor", type="stop", seconds=10)
    assert one.ended()["signal"] == "SIGTERM"


def test_the_last_lines_are_kept(container):
    """Of both streams, in their order, cut where they are long; what has no end of line, too."""
    text = (
        "import os, sys, time\n"
        "for number in range(50): print('line', number, flush=True)\n"
        "time.sleep(0.5)\n"
        "print('x' * 3000 + 'end', file=sys.stderr, flush=True)\n"
        "time.sleep(0.5)\n"
        "os.write(1, b'\\xff and no end')\n"
        "os._exit(4)"
    )
    one = container().greet().start(text)
    lines = one.ended()["lines"]
    assert len(lines) == LAST_LINES
    *numbered, long, last = lines
    assert numbered == [f"line {number}" for number in range(50 - len(numbered), 50)]
    assert long == ("x" * 3000 + "end")[-LINE_CHARACTERS:]
    assert last == "\N{REPLACEMENT CHARACTER} and no end"


def test_output_is_passed_on_unchanged(container):
    """Ten megabytes of anything, without an end of line, on both streams at once."""
    text = (
        "import os, random, sys, threading\n"
        "def write(number):\n"
        "    content = random.Random(number).randbytes(10_000_000)\n"
        "    while content: content = content[os.write(number, content):]\n"
        "threads = [threading.Thread(target=write, args=(number,)) for number in (1, 2)]\n"
        "for thread in threads: thread.start()\n"
    )
    one = container().greet().start(text)
    out, err = one.process.communicate(timeout=60)
    import random

    assert (
        hashlib.sha256(out).digest()
        == hashlib.sha256(random.Random(1).randbytes(10_000_000)).digest()
    )
    assert (
        hashlib.sha256(err).digest()
        == hashlib.sha256(random.Random(2).randbytes(10_000_000)).digest()
    )
    assert one.process.returncode == 0


def test_output_reaches_a_slow_reader_whole(container):
    """The workflow has ended meanwhile."""
    one = container().greet().start("print('x' * 200_000)\nprint('last')")
    time.sleep(4)
    out, _ = one.process.communicate(timeout=60)
    assert out == b"x" * 200_000 + b"\nlast\n"


def test_a_reader_that_is_gone_does_not_end_the_workflow(container):
    """`k8s-parsl run | head`: the writer learns of it, which here is the supervisor, and goes on."""
    text = "import time\nprint('first', flush=True)\nopen('go').read()\nfor _ in range(10): print('x' * 100_000)\n"
    one = container()
    (one.folder / "work").mkdir()
    os.mkfifo(one.folder / "work" / "go")
    one.greet().start(text)
    assert one.line() == "first"
    one.process.stdout.close()
    (one.folder / "work" / "go").write_text("")
    assert one.ended()["status"] == 0
    one.process.stdout = None


def test_on_a_terminal_the_workflow_has_the_terminal(container):
    ours, theirs = pty.openpty()
    one = container(stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    one.greet().start(
        "import sys\nprint([s.isatty() for s in (sys.stdin, sys.stdout, sys.stderr)])"
    )
    assert one.ended()["status"] == 0
    shown = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(ours, 4096):
            shown += chunk
    os.close(ours)
    assert b"[True, True, True]" in shown


def test_nothing_that_the_workflow_started_outlives_it(container):
    """Nor the children of its children, in their own sessions and ignoring SIGTERM."""
    text = (
        "import subprocess\n"
        "deaf = \"trap '' TERM HUP; sleep 600 & echo $! $$; wait\"\n"
        "for _ in range(2):\n"
        "    subprocess.Popen(['setsid', 'sh', '-c', deaf])\n"
    )
    one = container().greet().start(text)
    pids = [int(pid) for _ in range(2) for pid in one.line().split()]
    assert all(alive(pid) for pid in pids)
    assert one.ended()["status"] == 0
    until_dead(*pids, seconds=1)


def test_a_child_that_finishes_soon_may_finish(container):
    """Parsl's interchange still stops its workers when its parent has gone."""
    one = container()
    text = "import subprocess\nsubprocess.Popen(['sh', '-c', 'sleep 0.5; echo done > done'])\n"
    one.greet().start(text)
    assert one.ended()["status"] == 0
    assert (one.folder / "work" / "done").read_text() == "done\n"


def test_when_the_launcher_is_gone_the_workflow_and_its_children_end(container):
    """Within seconds, also if they ignore SIGTERM: the next launcher starts from a clean state."""
    text = (
        "import os, signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True))\n"
        "child = subprocess.Popen(['sh', '-c', \"trap '' TERM; while :; do sleep 600; done\"])\n"
        "print(os.getpid(), child.pid, flush=True)\n"
        "while True: time.sleep(600)\n"
    )
    one = container().greet().start(text)
    pids = [int(pid) for pid in one.line().split()]
    began = time.monotonic()
    one.channels["supervisor"].close()
    one.channels["kernel"].close()
    assert one.line() == "told"
    assert one.process.wait(20) == 137
    assert time.monotonic() - began < 12
    until_dead(*pids, seconds=1)


def test_sigterm_goes_on_to_the_workflow_which_may_do_with_it_what_it_likes(container):
    """The launcher gets a report of it, and that the process was asked to end."""
    text = (
        "import signal, sys, time\n"
        "def leave(*_):\n"
        "    print('leaving', flush=True)\n"
        "    sys.exit(5)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    one = container().greet().start(text)
    assert one.line() == "ready"
    one.process.send_signal(signal.SIGTERM)
    assert one.next("supervisor") == {"type": "terminating"}
    assert one.line() == "leaving"
    ended = one.ended()
    assert (ended["status"], ended["signal"], ended["asked"]) == (5, "", True)


def test_without_a_handler_sigterm_ends_the_workflow(container):
    one = container().greet().start("import time\nprint('ready', flush=True)\ntime.sleep(600)\n")
    assert one.line() == "ready"
    one.process.send_signal(signal.SIGTERM)
    assert one.next("supervisor") == {"type": "terminating"}
    ended = one.ended()
    assert (ended["status"], ended["signal"], ended["asked"]) == (143, "SIGTERM", True)


def test_one_that_does_not_end_when_it_is_asked_is_killed(container):
    """After the time that the launcher says."""
    text = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('no', flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(600)\n"
    )
    one = container().greet().start(text)
    assert one.line() == "ready"
    one.send("supervisor", type="stop", seconds=0.5)
    assert one.line() == "no"
    ended = one.ended()
    assert (ended["status"], ended["signal"], ended["asked"]) == (137, "SIGKILL", True)


def test_where_there_is_nothing_to_do_it_ends_well(container):
    one = container().greet()
    one.send("supervisor", type="nothing")
    assert one.process.wait(20) == 0
    assert one.next("supervisor") is None


def test_a_launcher_that_ends_before_the_start_ends_it(container):
    one = container().greet()
    for channel in one.channels.values():
        channel.close()
    one.process.wait(20)


def test_no_launcher_at_all(tmp_path, monkeypatch):
    """SIGTERM ends the waiting for one."""
    from k8s_parsl_runtime.shared.programs import START

    words = [sys.executable, "-I", START, "workflow", "--socket", str(tmp_path / "none")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.terminate()
    assert process.communicate(timeout=20)[1] == b"k8s-parsl: no launcher answers on the socket\n"
    assert process.returncode == 75


def test_code_that_is_wrong_is_reported_before_anything_starts(container):
    """And the container waits for the launcher to say what is next."""
    one = container().greet()
    ready = one.prepare(script="nope.py")
    assert (
        ready["fault"]["code"],
        "workflow.script: there is no file" in ready["fault"]["text"],
    ) == (64, True)
    assert one.process.poll() is None


def test_data_too_large_to_copy_is_named(container, monkeypatch):
    one = container().greet()
    (one.folder / "flow.py").write_text("def main(): pass")
    with (one.folder / "big").open("wb") as big:
        big.truncate(1 << 30)
    ready = one.prepare(call="flow:main")
    assert ready == {"type": "ready", "linked": ["big"], "renewed": [], "kept": []}


def test_a_line_that_comes_in_parts_is_one_line():
    output = Output(Kept("workflow", print))
    for part in (b"one\ntw", b"o", b"\n\n", b"three"):
        output._keep_lines(1, part)
    assert output.last_lines() == ["one", "two", "three"]
