"""The same workload with Parsl alone: its checkpoints, and the files as its users write them."""

import sys

import parsl
from alone_apps import add, make
from content import ADDED, FOLDER
from parsl.config import Config
from parsl.dataflow.memoization import BasicMemoizer
from parsl.executors import HighThroughputExecutor
from parsl.logconfigs.noop import NoopLogging
from parsl.providers import LocalProvider
from parsl.utils import get_all_checkpoints


def main(folder, outputs, appends, pids):
    run_dir = f"{folder}/runinfo"
    workers = HighThroughputExecutor(
        max_workers_per_node=2,
        cores_per_worker=0.1,
        address="127.0.0.1",
        heartbeat_period=2,
        heartbeat_threshold=10,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    memoizer = BasicMemoizer(
        checkpoint_files=get_all_checkpoints(run_dir), checkpoint_mode="task_exit"
    )
    # Its log has 5 MB a second of a pool that is gone, which would fill the volume.
    config = Config(
        [workers],
        retries=3,
        memoizer=memoizer,
        run_dir=run_dir,
        initialize_logging=NoopLogging(),
    )
    with parsl.load(config):
        made = [make(n, f"{folder}/{FOLDER}/{n}.bin", pids) for n in range(outputs)]
        added = [add(n, f"{folder}/{ADDED}", pids) for n in range(appends)]
        for future in made + added:
            future.result()


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
