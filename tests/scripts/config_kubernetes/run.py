"""The Config of a run outside the cluster, with Parsl's own KubernetesProvider."""

import os

import parsl
from parsl import python_app
from parsl.addresses import address_by_hostname
from parsl.config import Config
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor


def config():
    if os.environ.get("PLAIN"):
        return Config(executors=[ThreadPoolExecutor(label="kube-htex")])
    from parsl.providers import KubernetesProvider

    return Config(
        executors=[
            HighThroughputExecutor(
                label="kube-htex",
                cores_per_worker=2,
                max_workers_per_node=1,
                worker_logdir_root="/tmp",
                address=address_by_hostname(),
                provider=KubernetesProvider(
                    namespace="pdgrun",
                    image="ghcr.io/pdg/workflow:1",
                    nodes_per_block=1,
                    init_blocks=1,
                    min_blocks=1,
                    max_blocks=1,
                    persistent_volumes=[("pdg-claim", "/mnt/k8s-dev-pdg")],
                ),
            )
        ]
    )


@python_app(executors=["kube-htex"])
def square(x):
    return x * x


if __name__ == "__main__":
    with parsl.load(config()):
        print([f.result() for f in [square(x) for x in range(4)]])
