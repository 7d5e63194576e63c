"""The Parsl configuration of the plain script: what a user already has. The launcher sets it aside
for the chart's.
"""

from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

config = Config(
    executors=[
        HighThroughputExecutor(
            label="kube-htex",
            address="127.0.0.1",
            cores_per_worker=1,
            max_workers_per_node=5,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
    ],
    retries=2,
)
