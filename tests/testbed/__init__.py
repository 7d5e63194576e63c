"""A real two-node Kubernetes cluster on a bare Linux machine, for tests and for developers.

Everything runs as ordinary processes of this machine: etcd, the control plane, two kubelets each
with a containerd, an image registry on loopback. Nothing is downloaded but from package registries,
and `down` leaves the machine as it was. Tests use the class below; developers use `make cluster`
(`python -m testbed up`).
"""

from pathlib import Path
from typing import ClassVar

from testbed import cluster, controlplane, images, layout, parts, tools
from testbed.layout import TestbedError
from testbed.processes import Identity

__all__ = ["Testbed", "TestbedError"]


class Testbed:
    """The testbed of this machine, up or not."""

    __test__ = False  # not a class of tests

    registry = layout.REGISTRY
    """Host and port of the image registry: plain HTTP, the same name on this machine and on the
    nodes.
    """

    nodes = tuple(node.name for node in layout.NODES)
    node_ips: ClassVar[dict[str, str]] = {node.name: node.ip for node in layout.NODES}

    api_server = f"https://{layout.API_SERVER_IP}:{layout.API_PORT}"
    """For pods and for servers on this machine that are not told 127.0.0.1 by the kubeconfig."""

    @property
    def kubeconfig(self) -> Path:
        return layout.kubeconfig()

    @property
    def data(self) -> Path:
        """Return the folder for hostPath volumes: the same on both nodes, writable by all users.

        `down` deletes it.
        """
        return layout.data_dir()

    @property
    def ca(self) -> Path:
        """Return the certificate of the cluster's CA."""
        return layout.pki_dir() / "ca.crt"

    def running(self) -> bool:
        return cluster.running()

    def up(self) -> None:
        """Start it with the project's images, if it does not run."""
        cluster.up()
        images.ensure()

    def images(self) -> dict[str, str]:
        """`k8s-parsl` and `k8s-parsl-tiles`, as pods name them."""
        return images.known()

    def tools(self) -> Path:
        """Return the folder with helm, helm3 and kubectl."""
        return tools.ensure()

    def stop_kubelet(self, node: str) -> None:
        """Lose a node: its pods go on, but report nothing. The node is NotReady within 20 s."""
        cluster.stop_kubelet(layout.node(node))

    def start_kubelet(self, node: str) -> None:
        """Bring a lost node back; return when it is ready."""
        cluster.start_kubelet(layout.node(node))

    def launch(
        self, name: str, command: list[str], environment: dict[str, str] | None = None
    ) -> Identity:
        """Start another program beside the cluster (Vault, KWOK …).

        It logs to `logs/<name>.log` and ends with the cluster.
        """
        return controlplane.launch(cluster.journal(), name, command, environment)

    def program(self, part: str) -> Path:
        """Return the folder of another part's programs; compile them if not cached."""
        return parts.ensure(part)
