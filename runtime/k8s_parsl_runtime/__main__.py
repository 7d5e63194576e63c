"""The runtime's programs; `start.py` calls one of them by the first argument."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from k8s_parsl_runtime.shared import imports, threads, userpath
from k8s_parsl_runtime.shared.errors import ExitCode, Failure, exit_status, last_word, one_line


def main(arguments: Sequence[str]) -> NoReturn:
    """Run a program, and end the process with its exit code, also while its threads run."""
    program, *rest = arguments
    try:
        code = _PROGRAMS[program](rest)
    except SystemExit as end:
        # Parsl's pool ends so, with a thread that still waits for an interchange which is gone.
        code = exit_status(end)
    except BaseException:  # noqa: BLE001 (Python's own end would wait for the pool's threads)
        traceback.print_exc()
        code = ExitCode.INTERNAL
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _worker(arguments: Sequence[str]) -> int:
    from k8s_parsl_runtime.worker import entry, tee

    try:
        return _guarded(lambda: entry.main(arguments))
    finally:
        tee.end()


def _guarded(run: Callable[[], None]) -> int:
    """Run a program; how it ended is its last line, and the pod's termination message."""
    try:
        run()
    except Failure as failure:
        return last_word(str(failure), failure.exit_code)
    except Exception as error:  # noqa: BLE001 (the last line says what it was)
        traceback.print_exc()
        text = one_line(f"internal error: {type(error).__name__}: {error}")
        return last_word(text, ExitCode.INTERNAL)
    return ExitCode.DONE


def _workflow(arguments: Sequence[str]) -> int:
    from k8s_parsl_runtime.workflow import supervisor

    return supervisor.main(arguments)


def _kernel(arguments: Sequence[str]) -> NoReturn:
    with imports.client_later():
        from k8s_parsl_runtime.workflow import program

    program.main(arguments)


def _interchange(arguments: Sequence[str]) -> int:
    # Ctrl-C on a terminal reaches the whole group, also while this process imports Parsl. It ends
    # when its parent does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with imports.lean():
        from k8s_parsl_runtime.shared import parsl_logging

        parsl_logging.make_only_what_is_written()
        from k8s_parsl_runtime.workflow import interchange

    interchange.main(arguments)
    return ExitCode.DONE


def _pool(arguments: Sequence[str]) -> int:
    """Run Parsl's own program, as `python -m` would; its imports do not see the user's folders."""
    import runpy

    threads.put(os.environ)
    # Without it Parsl counts the node's CPUs, and starts no more workers than that.
    os.environ["PARSL_CORES"] = _option(arguments, "--max_workers_per_node", "")
    with imports.lean():
        from k8s_parsl_runtime.shared import parsl_logging
        from k8s_parsl_runtime.worker import (
            alert,
            deaths,
            forks,
            handing_back,
            manager_log,
            overtime,
            parsls_pool,
            probing,
        )

        manager_log.be_calm()
        deaths.watch(_option(arguments, "--uid", ""))
        probing.watch()
        parsl_logging.make_only_what_is_written()
        # Import all that it imports before the user's folders are on the path, and all that a task
        # needs before worker processes are forked.
        import parsl.executors.high_throughput.process_worker_pool as pool

        from k8s_parsl_runtime.worker import imported, task  # noqa: F401

        imported.install()

    sys.argv = [pool.__file__, *arguments]
    userpath.put()
    del sys.modules[pool.__name__]
    overtime.share()
    forks.begin()
    overtime.watch()
    parsls_pool.when_begun(alert.install, handing_back.watch)
    runpy.run_module(pool.__name__, run_name="__main__", alter_sys=True)
    return ExitCode.DONE


def _option(arguments: Sequence[str], name: str, default: str) -> str:
    for word in arguments:
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return default


def _laptop_pool(arguments: Sequence[str]) -> int:
    """Run the pool, and keep its output in a file.

    The first arguments are the file's folder, the two limits of what is kept, and the executor's
    label.
    """
    from k8s_parsl_runtime.shared.kept import Limits
    from k8s_parsl_runtime.worker import tee

    folder, per_pod, per_run, label, *rest = arguments
    block = _option(rest, "--block_id", "0")
    workers = int(_option(rest, "--max_workers_per_node", "0"))
    name = f"{label}-{block}"
    tee.begin(folder, name, Limits(int(per_pod), int(per_run)), workers)
    # The interchange knows it by the name that its log has.
    return _pool([*rest, f"--uid={name}"])


_PROGRAMS = {
    "worker": _worker,
    "workflow": _workflow,
    "kernel": _kernel,
    "interchange": _interchange,
    "pool": _pool,
    "laptop-pool": _laptop_pool,
}
