"""Settings in, Parsl's Config out: in a pod with worker pods, on a laptop with local processes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from parsl.config import Config
from parsl.dataflow.memoization import BasicMemoizer
from parsl.providers import LocalProvider

from k8s_parsl.dataflow import retry_cost
from k8s_parsl.errors import ConfigurationError, Failure
from k8s_parsl.executor import PodExecutor, WatchedExecutor, common_arguments
from k8s_parsl.identity import Identity
from k8s_parsl.pods import Api, PodWatch
from k8s_parsl.provider import PodProvider
from k8s_parsl.settings import Settings, read_yaml

OnFault = Callable[[Failure], None]


def for_pods(
    settings: Settings,
    identity: Identity,
    api: Api,
    watch: PodWatch,
    *,
    mounted: Path,
    run_dir: Path,
    cert_dir: Path | None,
    on_fault: OnFault,
) -> Config:
    """A Config whose blocks are the pods of ``mounted/worker-<label>.yaml``; no ``cert_dir``: not encrypted."""
    executors = []
    # In the order of their names, as Helm renders maps: launcher and chart then agree on the ports.
    for number, (label, executor) in enumerate(sorted(settings.executors.items())):
        template = read_yaml(mounted / f"worker-{label}.yaml")
        provider = PodProvider(label, executor, template, identity, api, watch, on_fault)
        executors.append(
            PodExecutor(
                label,
                executor,
                settings.parsl,
                provider=provider,
                address=identity.pod_ip,
                worker_port=settings.parsl.worker_port + number,
                cert_dir=cert_dir,
                on_fault=on_fault,
            )
        )
    return _config(settings, executors, run_dir)


def for_laptop(settings: Settings, *, run_dir: Path, on_fault: OnFault) -> Config:
    """A Config whose blocks are processes of this machine."""
    executors = []
    for label, executor in settings.executors.items():
        provider = LocalProvider(
            init_blocks=executor.init_blocks,
            min_blocks=executor.min_blocks,
            max_blocks=executor.max_blocks,
            parallelism=executor.parallelism,
            worker_init=executor.worker_init,
        )
        pool = shlex.join([sys.executable, "-m", "parsl.executors.high_throughput.process_worker_pool"])
        watched = WatchedExecutor(
            on_fault,
            **common_arguments(label, executor, settings.parsl),
            provider=provider,
            address="127.0.0.1",
        )
        watched.launch_cmd = watched.launch_cmd.replace("process_worker_pool.py", pool, 1)
        executors.append(watched)
    return _config(settings, executors, run_dir)


def _config(settings: Settings, executors: list[WatchedExecutor], run_dir: Path) -> Config:
    try:
        return Config(
            executors=executors,
            strategy=settings.parsl.strategy,
            strategy_period=settings.parsl.strategy_period,
            max_idletime=settings.parsl.max_idletime,
            retries=settings.parsl.retries,
            retry_handler=retry_cost(
                settings.parsl.retries,
                settings.parsl.loss_retries,
                settings.parsl.retry_lost_tasks,
                lambda pod: next((said for executor in executors if (said := executor.why(pod))), ""),
            ),
            run_dir=str(run_dir),
            # Only apps with cache=True are kept; a launcher that starts again takes their results from here.
            memoizer=BasicMemoizer(checkpoint_mode="task_exit" if settings.run.volume else None),
            # Parsl's own parsl.log at DEBUG halves the throughput (measured); ours goes to the launcher's log.
            initialize_logging=False,
            usage_tracking=0,
        )
    except ValueError as error:
        raise ConfigurationError(f"parsl: {error}") from None
