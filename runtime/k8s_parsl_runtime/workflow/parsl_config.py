"""Parsl's Config, made from the launcher's plan."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from parsl.config import Config

from k8s_parsl_runtime.shared import programs, threads, userpath
from k8s_parsl_runtime.shared.errors import ConfigurationError, Failure
from k8s_parsl_runtime.shared.protocol import Message
from k8s_parsl_runtime.workflow import monitoring
from k8s_parsl_runtime.workflow.app_limits import AppLimits
from k8s_parsl_runtime.workflow.checkpoints import Memoizer
from k8s_parsl_runtime.workflow.executor import WatchedExecutor, common_arguments
from k8s_parsl_runtime.workflow.laptop_executor import LaptopExecutor, as_it_is
from k8s_parsl_runtime.workflow.losses import RetryCost
from k8s_parsl_runtime.workflow.pod_executor import PodExecutor
from k8s_parsl_runtime.workflow.provider import LaptopProvider, LauncherProvider, Send

OnFault = Callable[[Failure], None]


def executors(
    plan: Message, cert_dir: Path | None, send: Send, on_fault: OnFault
) -> list[WatchedExecutor]:
    """Return the plan's executors.

    Where the plan has an address, their workers are pods; else they are processes of this machine.
    """
    if plan["address"]:
        return [
            _of_pods(plan, label, cert_dir=cert_dir, send=send, on_fault=on_fault)
            for label in plan["executors"]
        ]
    return [_of_processes(plan, label, on_fault) for label in plan["executors"]]


def _of_pods(
    plan: Message, label: str, *, cert_dir: Path | None, send: Send, on_fault: OnFault
) -> PodExecutor:
    executor = plan["executors"][label]
    return PodExecutor(
        label,
        executor,
        provider=LauncherProvider(label, executor, send),
        address=plan["address"],
        cert_dir=cert_dir,
        on_fault=on_fault,
    )


def _of_processes(plan: Message, label: str, on_fault: OnFault) -> LaptopExecutor:
    executor = plan["executors"][label]
    provider = LaptopProvider(
        init_blocks=executor["init_blocks"],
        min_blocks=executor["min_blocks"],
        max_blocks=executor["max_blocks"],
        parallelism=executor["parallelism"],
        # As in a pod: the first line that fails ends it. `set -e` stands on the user's first line,
        # so that bash numbers the lines as the user does.
        worker_init=f"set -e; {executor['worker_init']}",
    )
    laptop = LaptopExecutor(
        on_fault,
        **common_arguments(label, executor, encrypted=plan["parsl"]["encrypted"]),
        provider=provider,
        address="127.0.0.1",
    )
    command = as_it_is(_pool_command(plan, label))
    laptop.launch_cmd = laptop.launch_cmd.replace("process_worker_pool.py", command, 1)
    return laptop


def _pool_command(plan: Message, label: str) -> str:
    """Return the shell command of a laptop's worker pool.

    It sets the working directory and the user's folders itself, as the first pools are started
    before the workflow's process has them.
    """
    executor = plan["executors"][label]
    folders = shlex.quote(":".join(userpath.of_code(**plan["code"])))
    limits = threads.variables(executor["cores"], limit=executor["limit_threads"])
    variables = [
        f'{userpath.VARIABLE}={folders}":${userpath.VARIABLE}:$PYTHONPATH"',
        "PYTHONPATH=",
        *(f"{name}={value}" for name, value in limits.items()),
    ]
    pool = programs.command("laptop-pool", plan["logs"], *map(str, plan["keep"]), label)
    # Not by `env`, which takes an interpreter's path with a `=` for one more variable.
    return f"cd {shlex.quote(plan['work'])} && {' '.join(variables)} {shlex.join(pool)}"


def config(plan: Message, executors: list[WatchedExecutor], limits: AppLimits) -> Config:
    """Return Parsl's Config of these executors.

    Args:
        plan: the launcher's.
        executors: see above.
        limits: those of the apps.

    Raises:
        ConfigurationError: Parsl does not accept a value.
    """
    parsl = plan["parsl"]
    try:
        return Config(
            executors=executors,
            strategy=parsl["strategy"],
            strategy_period=parsl["strategy_period"],
            max_idletime=parsl["max_idletime"],
            retries=parsl["retries"],
            retry_handler=_retry_cost(parsl, executors, limits),
            run_dir=plan["run_dir"],
            monitoring=monitoring.hub(plan),
            memoizer=_memoizer(plan),
            # Parsl's own parsl.log at DEBUG halves the throughput (measured); ours goes to the
            # launcher's log.
            initialize_logging=False,
            usage_tracking=0,
        )
    except ValueError as error:
        raise ConfigurationError(f"parsl: {error}") from None


def _memoizer(plan: Message) -> Memoizer:
    parsl = plan["parsl"]
    return Memoizer(
        attempt=plan["attempt"] if plan["keep_results"] else 0,
        cache=parsl["cache"],
        cache_key=parsl["cache_key"],
        delay=parsl["checkpoint_delay"],
        folders=userpath.of_code(**plan["code"]),
        resume=Path(plan["resume"]) if plan["resume"] else None,
    )


def _retry_cost(parsl: Message, executors: list[WatchedExecutor], limits: AppLimits) -> RetryCost:
    def why(pod: str) -> str:
        for executor in executors:
            reason = executor.why(pod)
            if reason:
                return reason
        return ""

    def blames(pod: str, *, sure: bool) -> bool:
        return any(executor.blames(pod, sure=sure) for executor in executors)

    return RetryCost(
        parsl["retries"], parsl["loss_retries"], parsl["retry_lost_tasks"], why, blames, limits
    )
