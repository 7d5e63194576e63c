"""The Config of a run on a supercomputer."""

import os

import parsl
from parsl import bash_app, python_app
from parsl.addresses import address_by_hostname, address_by_interface
from parsl.config import Config
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.launchers import SrunLauncher
from parsl.monitoring.monitoring import MonitoringHub
from parsl.providers import SlurmProvider


def slurm():
    return Config(
        executors=[
            HighThroughputExecutor(
                label="compute",
                address=address_by_interface("ib0"),
                max_workers_per_node=64,
                provider=SlurmProvider(
                    "normal",
                    account="pdg",
                    nodes_per_block=4,
                    walltime="01:00:00",
                    scheduler_options="#SBATCH --constraint=cpu",
                    worker_init="module load python; source activate pdg",
                    launcher=SrunLauncher(),
                    cmd_timeout=120,
                ),
            )
        ],
        retries=2,
        garbage_collect=False,
        monitoring=MonitoringHub(hub_address=address_by_hostname(), resource_monitoring_interval=10),
    )


local = Config(executors=[ThreadPoolExecutor(label="compute")])


@python_app(executors=["compute"])
def square(x):
    return x * x


@bash_app(executors="all")
def where(stdout="where.txt"):
    return "echo somewhere"


with parsl.load(local if "PLAIN" in os.environ else slurm()):
    print(sum(f.result() for f in [square(x) for x in range(10)]))
    where().result()
