"""Only processes of the testbed are ended, however pids are reused."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import layout, processes
from testbed.layout import TestbedError
from testbed.processes import Identity


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TESTBED_DIR", str(tmp_path))
    return tmp_path


def identity(process: subprocess.Popen[bytes]) -> Identity:
    found = Identity.of(process.pid)
    assert found is not None
    return found


def test_a_process_is_its_pid_and_its_start(sleeper: subprocess.Popen[bytes]) -> None:
    assert identity(sleeper).alive()
    assert not Identity(sleeper.pid, identity(sleeper).started - 1).alive()


def test_another_process_with_the_same_pid_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    processes.stop([Identity(sleeper.pid, identity(sleeper).started - 1)])
    assert sleeper.poll() is None


def test_a_program_with_brackets_in_its_name_is_read(tmp_path: Path) -> None:
    odd = tmp_path / "a) R (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "60"]) as process:
        assert identity(process).started == identity(process).started
        assert identity(process).alive()
        process.kill()


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = time.monotonic()
        processes.stop([identity(process)], grace=0.2)
        assert process.wait() == -9
        assert 0.2 <= time.monotonic() - started < 5


def test_a_gone_process_is_no_error() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    processes.stop([Identity(process.pid, 1)])


def test_children_are_found_by_the_marker(state: Path) -> None:
    """Here a shell that is gone leaves a child behind."""
    shell = processes.start("shell", ["sh", "-c", "sleep 61 & sleep 0.3"])
    processes.wait_for("the shell's end", lambda: not shell.alive(), seconds=5, processes={})
    assert len(list(processes.marked(state))) == 1
    processes.stop(processes.marked(state))
    assert list(processes.marked(state)) == []
    assert list(processes.marked(state / "other")) == []


def test_nothing_of_the_callers_environment_reaches_the_cluster(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_PROXY_OF_MINE", "x")
    started = processes.start("sleep", ["sleep", "60"])
    environment = Path(f"/proc/{started.pid}/environ").read_bytes().decode().split("\0")
    processes.stop([started])
    assert f"{layout.MARKER}={state}" in environment
    assert not [line for line in environment if line.startswith("A_PROXY_OF_MINE")]


def test_a_program_that_ends_is_reported_with_the_end_of_its_log(state: Path) -> None:
    started = processes.start("broken", ["sh", "-c", "echo no such flag; sleep 0.2; exit 3"])
    with pytest.raises(
        TestbedError,
        match=r"broken ended while the testbed waited for it: see .*broken.log(.|\n)*such flag",
    ):
        processes.wait_for("it", lambda: False, seconds=5, processes={"broken": started})


def test_waiting_ends_with_the_time(state: Path) -> None:
    own = Identity.of(os.getpid())
    assert own is not None
    with pytest.raises(TestbedError, match="it: not within 0 s"):
        processes.wait_for("it", lambda: False, seconds=0.1, processes={"me": own})
