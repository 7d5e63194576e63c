"""The same workload on Parsl's own KubernetesProvider, as a user would write it.

Run in its own Job. Encryption is off: the certificates do not reach upstream's pods. Retries,
checkpoints and the numbers of pods and workers are those of the other side.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

# The client of Kubernetes that its provider needs: in that image only the launcher's environment
# has it.
sys.path += map(str, Path("/opt/k8s-parsl/lib").glob("python3.*/site-packages"))

import parsl
from counted import main
from parsl.config import Config
from parsl.dataflow.memoization import BasicMemoizer
from parsl.executors import HighThroughputExecutor
from parsl.providers import KubernetesProvider

settings = json.loads(os.environ["SETTINGS"])
provider = KubernetesProvider(
    namespace=settings["namespace"],
    image=settings["image"],
    init_blocks=2,
    min_blocks=2,
    max_blocks=2,
    init_cpu=0.1,
    max_cpu=1,
    init_mem="256Mi",
    max_mem=settings["memory"],
    worker_init="export HOME=/tmp PYTHONPATH=/data/code",
    persistent_volumes=[("data", "/data")],
    user_id="10001",
    group_id="10001",
)
config = Config(
    executors=[
        HighThroughputExecutor(
            label="workers",
            address=os.environ["POD_IP"],
            encrypted=False,
            cores_per_worker=0.5,
            max_workers_per_node=2,
            worker_logdir_root="/tmp",
            provider=provider,
        )
    ],
    retries=10,
    run_dir="/data/parsl",
    memoizer=BasicMemoizer(checkpoint_mode="task_exit"),
    initialize_logging=False,
)
with parsl.load(config):
    main(**settings["kwargs"])
