"""The workflow's process: Parsl's kernel, and the user's code in the main thread.

It ends as Python would end: with the status, the output and the exit handlers of the user's code.
It sends over the socket what the launcher has to know.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from k8s_parsl_runtime.shared import keys, programs, userpath
from k8s_parsl_runtime.shared.deadlines import within
from k8s_parsl_runtime.shared.errors import (
    ExitCode,
    Failure,
    WorkflowFailed,
    describe,
    exit_status,
)
from k8s_parsl_runtime.shared.protocol import (
    PROTOCOL,
    TEXT_CHARACTERS,
    Channel,
    Message,
    ProtocolError,
    connect,
)
from k8s_parsl_runtime.workflow import (
    causes,
    code,
    made_outputs,
    missing,
    parsl_config,
    patches,
    pictures,
    python_end,
    results,
)
from k8s_parsl_runtime.workflow.app_limits import AppLimits
from k8s_parsl_runtime.workflow.begun import WriteAhead
from k8s_parsl_runtime.workflow.executor import WatchedExecutor
from k8s_parsl_runtime.workflow.kernel import Kernel
from k8s_parsl_runtime.workflow.long_tasks import LongTasks
from k8s_parsl_runtime.workflow.made_outputs import MadeOutputs
from k8s_parsl_runtime.workflow.observer import Observer
from k8s_parsl_runtime.workflow.reporter import Reporter, ToLauncher, ToRoot
from k8s_parsl_runtime.workflow.short_apps import ShortApps
from k8s_parsl_runtime.workflow.watchdog import Watchdog

log = logging.getLogger("k8s_parsl_runtime")

# Parsl's own end can wait for ever for a dead interchange.
CLOSE_S = 20.0
# What the launcher gets of the text of a `sys.exit`.
EXIT_CHARACTERS = 2000


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
    status = Program(launcher, plan).run()
    python_end.flush()
    os._exit(status)


class Program:
    """One run of the user's code."""

    def __init__(self, launcher: Channel, plan: Message) -> None:
        self._launcher = launcher
        self._plan = plan
        self._code = plan.get("code", {})
        self._pid = os.getpid()
        self._reporter = Reporter(launcher)
        self._executors: list[WatchedExecutor] = []
        self._begun: WriteAhead
        self._limits = AppLimits(plan.get("apps", {}))
        self._kernel: Kernel | None = None
        self._observer: Observer | None = None
        self._made: MadeOutputs
        # Threads that are not the user's.
        self._own: set[threading.Thread] = set()
        self._watchdog = Watchdog(self._is_busy, lambda: self._own, self._reporter.fault)

    def run(self) -> int:
        """Start Parsl, run the code and end as Python would; return the exit status."""
        self._send_logs()
        self._reporter.start()
        try:
            self._start_parsl()
        except Failure as failure:
            self._reporter.fault(failure)
            return failure.exit_code
        status = self._run_code()
        if self._is_forked():
            python_end.wait_for_threads(self._own)
            python_end.finish()
            python_end.flush()
            os._exit(status)
        return self._end(status)

    def _is_forked(self) -> bool:
        """Return whether this is a child that the script forked, and that came back here."""
        return os.getpid() != self._pid

    def _send_logs(self) -> None:
        """Send log lines to the launcher: the runtime's own, and Parsl's errors."""
        handler = ToLauncher(self._reporter)
        handler.setFormatter(logging.Formatter("%(message)s"))
        level = self._plan["log_level"]
        log.setLevel(level)
        log.addHandler(handler)
        log.propagate = False
        parsl = logging.getLogger("parsl")
        parsl.setLevel("INFO" if level == "DEBUG" else "ERROR")
        # The handlers have the level, too: a script may change that of the logger for its
        # own handler.
        parsl.addHandler(ToLauncher(self._reporter, parsl.level))
        parsl.addHandler(ToRoot(parsl.level))
        parsl.propagate = False

    def _start_parsl(self) -> None:
        plan = self._plan
        folder = Path(plan["run_dir"]) if plan["checkpoint"] else None
        self._begun = WriteAhead(folder, plan["attempt"], plan["parsl"]["retry_lost_tasks"])
        cert_dir = keys.install(plan["keys"], keys.PRIVATE) if plan["keys"] else None
        self._executors = parsl_config.executors(
            plan, cert_dir, self._reporter.send, self._reporter.fault
        )
        run = made_outputs.of_run(plan)
        self._made = MadeOutputs(self._reporter, made_outputs.begin(run, plan["resume"]))
        for executor in self._executors:
            executor.on_scaled = self._reporter.scaled
            executor.of_run = list(run)
        threading.Thread(target=self._listen, name="launcher", daemon=True).start()
        parsl = plan["parsl"]
        config = parsl_config.config(plan, self._executors, self._limits)
        self._kernel = Kernel(
            config,
            self._reporter,
            self._reporter.fault,
            self._begun,
            self._limits,
            self._made,
            most_pending=parsl["max_pending"],
        )
        self._made.called(self._kernel.last_called)
        patches.load(self._kernel)
        python_end.before_exit(self._report_all)
        self._watchdog.start()
        self._look_at_times(self._kernel)
        waiting, held = self._kernel.waiting.by_app, self._kernel.pending.held
        self._observer = Observer(self._executors, self._reporter, waiting, held, self._resumed)
        self._observer.start()
        self._own = set(threading.enumerate())

    def _resumed(self) -> list[list[Any]]:
        """Return what was taken over of an older run, if that has changed."""
        memoizer: Any = self._kernel.memoizer if self._kernel else None
        return memoizer.resumption.news() if memoizer and memoizer.resumption else []

    def _look_at_times(self, kernel: Kernel) -> None:
        """Name tasks that take long, and have short ones sent ahead."""
        long_tasks = LongTasks(self._executors, self._reporter.long)
        short_apps = ShortApps(self._send_ahead)

        def done(app: str, seconds: float) -> None:
            long_tasks.done(app, seconds)
            short_apps.done(app, seconds)

        kernel.on_done = done
        long_tasks.start()

    def _send_ahead(self, app: str, ahead: bool) -> None:  # noqa: FBT001 (a callback's)
        for watched in self._executors:
            executor = self._plan["executors"][watched.label]
            if executor["prefetch_short_tasks"]:
                watched.send_ahead(app, ahead=ahead)

    def _is_busy(self) -> bool:
        """Return whether a task is with a worker, or waits for one, or for its turn."""
        waits = self._kernel is not None and bool(self._kernel.waiting)
        return waits or any(executor.tasks for executor in self._executors)

    def _listen(self) -> None:
        """Take what the launcher reports of the worker pods; it ends the process by a signal."""
        providers = {executor.label: executor.provider for executor in self._executors}
        with contextlib.suppress(ProtocolError):
            while (message := self._launcher.receive()) is not None:
                providers[message["executor"]].take(message)

    # The user's code.

    def _run_code(self) -> int:
        """Run the user's code; return the status that Python would exit with."""
        try:
            self._enter()
            result = self._call()
        except SystemExit as end:
            return self._exited(end)
        except Failure as failure:
            if self._is_forked():
                return self._raised(failure)
            self._reporter.fault(failure)
            return failure.exit_code
        except BaseException as error:  # noqa: BLE001 (KeyboardInterrupt, too, is the code's end)
            return self._raised(error)
        return self._returned(result)

    def _enter(self) -> None:
        """Set the working directory and the module path of the user's code."""
        os.chdir(self._plan["work"])
        folders = userpath.of_code(**self._code)
        if why := userpath.hiding(folders):
            raise WorkflowFailed(why)
        before = os.environ.get(userpath.VARIABLE, "").split(os.pathsep)
        path = filter(None, [*folders, *before])
        os.environ[userpath.VARIABLE] = os.pathsep.join(dict.fromkeys(path))
        userpath.put()

    def _call(self) -> Any:
        script = self._code["script"]
        path = self._code["path"]
        if not script:
            call = self._code["call"]
            sys.argv = [call]
            return code.run_function(call, self._plan["kwargs"], path)
        from k8s_parsl_runtime.shared import pickling  # noqa: F401 (it registers itself)

        return code.run_script(str(Path(path, script)), self._plan["args"])

    def _exited(self, end: SystemExit) -> int:
        """Take a `sys.exit`: with nothing, a number, or a text for standard error."""
        status = exit_status(end)
        if status:
            self._reporter.send({"type": "raised", "text": describe(end)[:EXIT_CHARACTERS]})
            return status
        return self._returned(code.result_of_script() if self._code["script"] else None)

    def _raised(self, error: BaseException) -> int:
        hint = missing.hint(error, userpath.of_code(**self._code))
        text = causes.describe(error)[: TEXT_CHARACTERS - len(hint)]
        self._reporter.send({"type": "raised", "text": f"{text}{hint}"})
        causes.cut(error)
        python_end.show(error, text)
        if isinstance(error, KeyboardInterrupt):
            return 128 + signal.SIGINT
        return 1

    def _returned(self, result: Any) -> int:
        """Wait for the tasks whose results the code did not ask for; return the exit status."""
        if self._kernel is None or self._is_forked():
            return 0
        try:
            self._kernel.wait_for_current_tasks()
            self._made.merge()
            self._reporter.flush()
            for picture in results.pictures(result):
                self._send_picture(picture)
            self._reporter.send({"type": "returned", "result": results.presentable(result)})
        except Failure as failure:
            self._reporter.fault(failure)
            return failure.exit_code
        except KeyboardInterrupt as stop:
            # By a signal: what the result itself raises does not come here.
            return self._raised(stop)
        return 0

    def _send_picture(self, picture: Path) -> None:
        places = [Path(place) for place in (*self._plan["volumes"], self._plan["work"])]
        for message in pictures.messages(picture, places):
            self._reporter.send(message)

    # The end.

    def _end(self, status: int) -> int:
        """Do what Python does at its end: wait for threads, call the exit handlers; end Parsl.

        Returns:
            The exit status: another one where what threads' tasks have added cannot be merged.
        """
        python_end.wait_for_threads(self._own)
        if status == 0 and self._kernel:
            self._kernel.wait_for_current_tasks()
            self._report_unreceived(self._kernel)
            self._begun.say_unknown()
            self._limits.say_unknown()
            status = self._merge_rest()
        self._watchdog.stop()
        if self._observer:
            self._observer.look_at_resumed()
        self._reporter.flush()
        self._end_parsl()
        python_end.finish()
        self._reporter.finish()
        return status

    def _report_all(self) -> None:
        """Report what has ended so far, and have it kept."""
        self._reporter.flush()
        if self._kernel:
            self._kernel.memoizer.checkpoint()

    def _merge_rest(self) -> int:
        """Merge what tasks of the user's threads have added; return the exit status."""
        try:
            self._made.finish()
        except Failure as failure:
            self._reporter.fault(failure)
            return failure.exit_code
        return ExitCode.DONE

    def _report_unreceived(self, kernel: Kernel) -> None:
        """Report how many tasks failed whose exceptions the workflow never asked for."""
        count, first = kernel.failed_tasks.unreceived()
        if count:
            text = first[:TEXT_CHARACTERS]
            self._reporter.send({"type": "unreceived", "count": count, "first": text})

    def _end_parsl(self) -> None:
        """Stop the managers, then end Parsl.

        The managers come first, as nothing else ends them after `helm uninstall`. Parsl's own end
        asks each interchange, and would wait for ever for the answer of a dead one.
        """
        if self._kernel:
            self._kernel.begin_end()
        for executor in self._executors:
            # The code may have used up all that this process may open.
            within(CLOSE_S, f"end the workers of executors.{executor.label}", executor.stop)
        if any(executor.interchange_died for executor in self._executors):
            for executor in self._executors:
                executor.end_blocks()
            if self._kernel:
                self._kernel.memoizer.close()
        elif self._kernel:
            within(CLOSE_S, "end Parsl", self._kernel.close)
        if self._kernel:
            self._kernel.cancel_open()
