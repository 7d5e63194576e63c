"""The launcher's plan in, Parsl's Config out: with worker pods in a cluster, with local processes
on a laptop.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parsl.config import Config

from k8s_parsl_runtime.shared import programs, threads, userpath
from k8s_parsl_runtime.shared.errors import ConfigurationError, Failure
from k8s_parsl_runtime.shared.protocol import Message
from k8s_parsl_runtime.workflow.checkpoints import Memoizer
from k8s_parsl_runtime.workflow.executor import (
    LaptopExecutor,
    PodExecutor,
    WatchedExecutor,
    as_it_is,
    common_arguments,
)
from k8s_parsl_runtime.workflow.losses import retry_cost
from k8s_parsl_runtime.workflow.provider import LaptopProvider, LauncherProvider, Send

OnFault = Callable[[Failure], None]


def executors(
    plan: Message, cert_dir: Path | None, send: Send, on_fault: OnFault
) -> list[WatchedExecutor]:
    """Return the plan's executors: of worker pods where it has an address for them, else of local
    processes.
    """
    if plan["address"]:
        return [
            PodExecutor(
                label,
                executor,
                provider=LauncherProvider(label, executor, send),
                address=plan["address"],
                cert_dir=cert_dir,
                on_fault=on_fault,
            )
            for label, executor in plan["executors"].items()
        ]
    encrypted = plan["parsl"]["encrypted"]
    return [
        _local(label, executor, on_fault, encrypted=encrypted, command=_pool(plan, label, executor))
        for label, executor in plan["executors"].items()
    ]


def _pool(plan: Message, label: str, executor: dict[str, Any]) -> str:
    """Return the shell's command of a laptop's worker pool, in the working directory, with the
    user's folders.

    Not by this process's own environment: the first pools are started before the workflow has one.
    """
    folders = ":".join(userpath.of_code(**plan["code"]))
    path = f'{userpath.VARIABLE}={shlex.quote(folders)}":${userpath.VARIABLE}:$PYTHONPATH"'
    told = threads.variables(executor["cores"], limit=executor["limit_threads"])
    variables = " ".join(
        [path, "PYTHONPATH=", *(f"{name}={value}" for name, value in told.items())]
    )
    pool = shlex.join(programs.command("laptop-pool", plan["logs"], label))
    # Not by `env`: it would take a path of the interpreter with a `=` for one more variable.
    return as_it_is(f"cd {shlex.quote(plan['work'])} && {variables} {pool}")


def _local(
    label: str, executor: dict[str, Any], on_fault: OnFault, *, encrypted: bool, command: str
) -> WatchedExecutor:
    provider = LaptopProvider(
        init_blocks=executor["init_blocks"],
        min_blocks=executor["min_blocks"],
        max_blocks=executor["max_blocks"],
        parallelism=executor["parallelism"],
        # As in a pod: the first line that fails ends it. On the line of the first, so that bash
        # numbers them right.
        worker_init=f"set -e; {executor['worker_init']}",
    )
    watched = LaptopExecutor(
        on_fault,
        **common_arguments(label, executor, encrypted=encrypted),
        provider=provider,
        address="127.0.0.1",
    )
    watched.launch_cmd = watched.launch_cmd.replace("process_worker_pool.py", command, 1)
    return watched


def config(plan: Message, executors: list[WatchedExecutor]) -> Config:
    """Return Parsl's Config of these executors.

    Raises:
        ConfigurationError: Parsl does not take a value.
    """
    parsl = plan["parsl"]
    try:
        return Config(
            executors=executors,
            strategy=parsl["strategy"],
            strategy_period=parsl["strategy_period"],
            max_idletime=parsl["max_idletime"],
            retries=parsl["retries"],
            retry_handler=retry_cost(
                parsl["retries"],
                parsl["loss_retries"],
                parsl["retry_lost_tasks"],
                lambda pod: next(
                    (said for executor in executors if (said := executor.why(pod))), ""
                ),
                lambda pod, *, sure: any(executor.blames(pod, sure=sure) for executor in executors),
            ),
            run_dir=plan["run_dir"],
            # Only apps with cache=True are kept; a launcher that starts again takes their results
            # from here.
            memoizer=Memoizer(keep=plan["checkpoint"]),
            # Parsl's own parsl.log at DEBUG halves the throughput (measured); ours goes to the
            # launcher's log.
            initialize_logging=False,
            usage_tracking=0,
        )
    except ValueError as error:
        raise ConfigurationError(f"parsl: {error}") from None
