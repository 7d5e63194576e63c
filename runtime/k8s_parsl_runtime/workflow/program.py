"""The workflow's process: Parsl's kernel, and the user's code in the main thread.

It ends as Python would end: with the status, the output and the exit handlers of the user's code.
What the launcher has to know of it goes over the socket meanwhile.
"""

from __future__ import annotations

import argparse
import atexit
import base64
import concurrent.futures.thread as pools
import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from k8s_parsl_runtime.shared import files, keys, programs, userpath
from k8s_parsl_runtime.shared.deadlines import safely, within
from k8s_parsl_runtime.shared.errors import (
    TEXT_S,
    ExitCode,
    Failure,
    WorkflowFailed,
    describe,
    exit_status,
    printable,
)
from k8s_parsl_runtime.shared.protocol import (
    PICTURE_BYTES,
    PROTOCOL,
    TEXT_CHARACTERS,
    Channel,
    Message,
    ProtocolError,
    connect,
)
from k8s_parsl_runtime.workflow import causes, code, missing, parsl_config, patches, results
from k8s_parsl_runtime.workflow.begun import WriteAhead
from k8s_parsl_runtime.workflow.executor import WatchedExecutor
from k8s_parsl_runtime.workflow.kernel import Kernel
from k8s_parsl_runtime.workflow.long_tasks import LongTasks
from k8s_parsl_runtime.workflow.reporter import Reporter, ToLauncher, ToRoot
from k8s_parsl_runtime.workflow.watchdog import Watchdog

log = logging.getLogger("k8s_parsl_runtime")

# Parsl's own end can wait for ever for a dead interchange.
CLOSE_S = 20.0
PART_BYTES = 300_000


def main(arguments: Sequence[str]) -> NoReturn:
    """Run the workflow, and end with its exit status."""
    parser = argparse.ArgumentParser(prog="kernel", allow_abbrev=False)
    parser.add_argument("--socket", required=True)
    options = parser.parse_args(arguments)
    programs.end_with_parent()
    launcher = connect(options.socket)
    launcher.send({"type": "hello", "role": "kernel", "protocol": PROTOCOL})
    patches.install()
    try:
        plan = launcher.receive()
    except ProtocolError as error:
        sys.exit(f"k8s-parsl: the launcher is of another version: {error}")
    if plan is None:
        # The launcher has ended, or there is nothing to do.
        os._exit(ExitCode.DONE)
    program = Program(launcher, plan)
    status = program.run()
    _flush()
    os._exit(status)


class Program:
    """One run of the user's code."""

    def __init__(self, launcher: Channel, plan: Message) -> None:
        self._launcher = launcher
        self._plan = plan
        self._pid = os.getpid()
        self._reporter = Reporter(launcher)
        self._executors: list[WatchedExecutor] = []
        self._begun: WriteAhead
        self._kernel: Kernel | None = None
        # Threads that are not the user's.
        self._own: set[threading.Thread] = set()
        self._watchdog = Watchdog(self._is_busy, lambda: self._own, self._reporter.fault)

    def run(self) -> int:
        """Start Parsl, run the code and end as Python would; return the exit status."""
        self._log()
        self._reporter.start()
        try:
            self._start_parsl()
        except Failure as failure:
            self._reporter.fault(failure)
            return failure.exit_code
        status = self._call()
        if os.getpid() != self._pid:
            # A child that the script forked, and that came back here.
            self._wait_for_threads()
            _end_python()
            _flush()
            os._exit(status)
        self._end(status)
        return status

    def _log(self) -> None:
        handler = ToLauncher(self._reporter)
        handler.setFormatter(logging.Formatter("%(message)s"))
        level = self._plan["log_level"]
        log.setLevel(level)
        log.addHandler(handler)
        log.propagate = False
        parsl = logging.getLogger("parsl")
        parsl.setLevel("INFO" if level == "DEBUG" else "ERROR")
        # By the handler, too: a script may set the logger's level for a handler of its own.
        parsl.addHandler(ToLauncher(self._reporter, parsl.level))
        parsl.addHandler(ToRoot(parsl.level))
        parsl.propagate = False

    def _start_parsl(self) -> None:
        folder = Path(self._plan["run_dir"]) if self._plan["checkpoint"] else None
        self._begun = WriteAhead(
            folder, self._plan["attempt"], self._plan["parsl"]["retry_lost_tasks"]
        )
        cert_dir = None
        if self._plan["keys"]:
            cert_dir = keys.install(self._plan["keys"], keys.PRIVATE)
        self._executors = parsl_config.executors(
            self._plan, cert_dir, self._reporter.send, self._reporter.fault
        )
        threading.Thread(target=self._listen, name="launcher", daemon=True).start()
        config = parsl_config.config(self._plan, self._executors)
        self._kernel = Kernel(config, self._reporter, self._reporter.fault, self._begun)
        patches.load(self._kernel)
        self._watchdog.start()
        long_tasks = LongTasks(self._executors, self._reporter.long)
        self._kernel.on_done = long_tasks.done
        long_tasks.start()
        self._own = set(threading.enumerate())

    def _is_busy(self) -> bool:
        """Whether a task is with a worker, or waits for one."""
        return any(executor.tasks for executor in self._executors)

    def _listen(self) -> None:
        """Take what the launcher says of the worker pods; it ends the process by a signal."""
        providers = {executor.label: executor.provider for executor in self._executors}
        with contextlib.suppress(ProtocolError):
            while (message := self._launcher.receive()) is not None:
                providers[message["executor"]].take(message)

    def _enter(self) -> None:
        """The working directory and the module path of the user's code."""
        os.chdir(self._plan["work"])
        folders = userpath.of_code(**self._plan["code"])
        if why := userpath.hiding(folders):
            raise WorkflowFailed(why)
        before = os.environ.get(userpath.VARIABLE, "").split(os.pathsep)
        os.environ[userpath.VARIABLE] = os.pathsep.join(
            dict.fromkeys(part for part in [*folders, *before] if part)
        )
        userpath.put()

    def _call(self) -> int:
        """Run the user's code; return the status that Python would exit with."""
        place = self._plan["code"]
        try:
            self._enter()
            if place["script"]:
                from k8s_parsl_runtime.shared import pickling  # noqa: F401 (it registers itself)

                result = code.run_script(
                    str(Path(place["path"], place["script"])), self._plan["args"]
                )
            else:
                sys.argv = [place["call"]]
                result = code.run_function(place["call"], self._plan["kwargs"], place["path"])
        except SystemExit as end:
            return self._exit(end)
        except Failure as failure:
            self._reporter.fault(failure)
            return failure.exit_code
        except BaseException as error:  # noqa: BLE001 (KeyboardInterrupt too: whatever it was, it is the end)
            return self._raised(error)
        return self._returned(result)

    def _exit(self, end: SystemExit) -> int:
        """`sys.exit`: with nothing, a number, or a text for standard error."""
        status = exit_status(end)
        if status:
            self._reporter.send({"type": "raised", "text": describe(end)[:2000]})
            return status
        return self._returned(code.result_of_script() if self._plan["code"]["script"] else None)

    def _raised(self, error: BaseException) -> int:
        hint = missing.hint(error, userpath.of_code(**self._plan["code"]))
        text = causes.describe(error)[: TEXT_CHARACTERS - len(hint)]
        self._reporter.send({"type": "raised", "text": f"{text}{hint}"})
        causes.cut(error)
        _show(error, text)
        return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1

    def _returned(self, result: Any) -> int:
        """The code came to its end: wait for the tasks whose results it did not ask for; return the
        exit status.
        """
        if self._kernel is None or os.getpid() != self._pid:
            return 0
        try:
            self._kernel.wait_for_current_tasks()
            self._reporter.flush()
            for picture in results.pictures(result):
                self._send_picture(picture)
            self._reporter.send({"type": "returned", "result": results.presentable(result)})
        except KeyboardInterrupt as stop:
            # A signal's: what the result itself raises does not come here.
            return self._raised(stop)
        return 0

    def _send_picture(self, picture: Path) -> None:
        try:
            places = [Path(place) for place in (*self._plan["volumes"], self._plan["work"])]
            content = files.read_inside(picture, places, PICTURE_BYTES)
        except OSError:
            return
        except Failure as refused:
            log.warning("not in the report: %s", refused)
            return
        name = printable(str(picture))[:TEXT_CHARACTERS]
        if content == b"":
            log.warning("not in the report: %s: it is empty", name)
            return
        # One that is too large is sent by its name alone.
        content = content or b""
        parts = [
            content[start : start + PART_BYTES] for start in range(0, len(content), PART_BYTES)
        ] or [b""]
        for number, part in enumerate(parts, 1):
            message: Message = {
                "type": "picture",
                "name": name,
                "media": results.MEDIA[picture.suffix.lower()],
            }
            message |= {"data": base64.b64encode(part).decode(), "last": number == len(parts)}
            self._reporter.send(message)

    def _end(self, status: int) -> None:
        """Do what Python does at its end: wait for threads, call the exit handlers. Then end Parsl."""
        self._wait_for_threads()
        if status == 0 and self._kernel:
            self._kernel.wait_for_current_tasks()
            self._tell_unreceived(self._kernel)
            self._begun.say_unknown()
        self._watchdog.stop()
        self._reporter.flush()
        self._end_parsl()
        _end_python()
        self._reporter.finish()

    def _tell_unreceived(self, kernel: Kernel) -> None:
        """Say how many tasks failed whose exceptions the workflow never asked for."""
        count, first = kernel.failed_tasks.unreceived()
        if count:
            self._reporter.send(
                {"type": "unreceived", "count": count, "first": first[:TEXT_CHARACTERS]}
            )

    def _wait_for_threads(self) -> None:
        for thread in threading.enumerate():
            if not thread.daemon and thread not in self._own and not _is_parsls(thread):
                thread.join()

    def _end_parsl(self) -> None:
        """Parsl's own shutdown asks each interchange and would wait for ever for the answer of a
        dead one.

        Stop the managers first: after `helm uninstall` nothing else ends them.
        """
        if self._kernel:
            self._kernel.begin_end()
        for executor in self._executors:
            executor.stop()
        if any(executor.interchange_died for executor in self._executors):
            for executor in self._executors:
                executor.end_blocks()
        elif self._kernel:
            within(CLOSE_S, "end Parsl", self._kernel.close)
        if self._kernel:
            self._kernel.cancel_open()


def _show(error: BaseException, text: str) -> None:
    """Print what the code raised, as Python or the user's own hook does.

    Python's own would wait for ever for a text that does not come: then it is ``text``.
    """
    if sys.excepthook is sys.__excepthook__:
        shown = safely(
            lambda: "".join(traceback.format_exception(error)), lambda _: f"{text}\n", TEXT_S
        )
        with contextlib.suppress(Exception):
            sys.stderr.write(shown)
        return
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except Exception:  # noqa: BLE001 (the user's own hook)
        traceback.print_exc()


def _is_parsls(thread: threading.Thread) -> bool:
    return thread in pools._threads_queues or thread.name.startswith(  # noqa: SLF001
        ("HTEX-", "Task-Launch", "_parsl_internal")
    )


def _end_python() -> None:
    """Do what Python does at its end once there are no threads left to wait for."""
    pools._python_exit()  # noqa: SLF001 (a user's ThreadPoolExecutor finishes its work)
    atexit._run_exitfuncs()  # noqa: SLF001
    code.let_go()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
