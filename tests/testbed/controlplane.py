"""etcd, the API server, the controller manager, the scheduler, kube-proxy and the image registry."""

import socket
from dataclasses import dataclass
from pathlib import Path

from testbed import client, layout, parts, processes
from testbed.journal import Journal, Process
from testbed.layout import TestbedError
from testbed.processes import Identity

READY_SECONDS = 60.0


@dataclass(frozen=True)
class Programs:
    """Where the compiled programs are."""

    kubernetes: Path
    etcd: Path
    containerd: Path
    registry: Path
    pause: Path

    @classmethod
    def ensure(cls) -> "Programs":
        return cls(**{name: parts.ensure(name) for name in parts.CLUSTER_PARTS})

    def hyperkube(self, program: str) -> list[str]:
        return [str(self.kubernetes / "hyperkube"), program]


def launch(
    journal: Journal, name: str, command: list[str], environment: dict[str, str] | None = None
) -> Identity:
    """Start a program and write it down."""
    identity = processes.start(name, command, environment=environment)
    journal.record(Process(name, identity.pid, identity.started))
    return identity


def start_etcd(journal: Journal, programs: Programs) -> None:
    client_url, peer_url = (
        f"http://127.0.0.1:{layout.ETCD_PORT}",
        f"http://127.0.0.1:{layout.ETCD_PEER_PORT}",
    )
    command = [
        str(programs.etcd / "etcd"),
        f"--data-dir={layout.state_dir() / 'etcd'}",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        "--unsafe-no-fsync",  # its data is useless after a crash
        "--log-level=warn",
    ]
    launch(journal, "etcd", command)


def start_apiserver(journal: Journal, programs: Programs) -> Identity:
    """Start it and wait until it is ready.

    Pods reach it by the address of the first node, which it advertises.
    """
    pki = layout.pki_dir()
    command = [
        *programs.hyperkube("kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{layout.ETCD_PORT}",
        # All addresses, because there is one flag and two callers: firewall.guard() keeps others
        # out.
        "--bind-address=0.0.0.0",
        f"--secure-port={layout.API_PORT}",
        f"--advertise-address={layout.API_SERVER_IP}",
        f"--service-cluster-ip-range={layout.SERVICE_NETWORK}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
        # Node names do not resolve here, and nothing is written into /etc/hosts for them.
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
    ]
    return launch(journal, "kube-apiserver", command)


def await_apiserver(identity: Identity) -> None:
    processes.wait_for(
        "the API server",
        lambda: client.answers("/readyz"),
        seconds=READY_SECONDS,
        processes={"kube-apiserver": identity},
    )


def start_controllers(journal: Journal, programs: Programs) -> None:
    """Start everything that works through the API server."""
    pki = layout.pki_dir()
    controller_manager = [
        *programs.hyperkube("kube-controller-manager"),
        f"--kubeconfig={layout.kubeconfig('controller-manager')}",
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.CONTROLLER_MANAGER_PORT}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'service-accounts.key'}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        f"--cluster-cidr={layout.POD_NETWORK}",
        "--allocate-node-cidrs=false",  # each node's network is in its CNI configuration
        # A dead node is noticed in 20 s instead of 50: a test of node loss spends its time
        # elsewhere.
        "--node-monitor-grace-period=20s",
        "--node-monitor-period=2s",
    ]
    scheduler = [
        *programs.hyperkube("kube-scheduler"),
        f"--kubeconfig={layout.kubeconfig('scheduler')}",
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.SCHEDULER_PORT}",
        "--leader-elect=false",
    ]
    # One kube-proxy for both nodes: they share the machine's network namespace, and so its rules.
    proxy = [
        *programs.hyperkube("kube-proxy"),
        f"--kubeconfig={layout.kubeconfig('proxy')}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={layout.POD_NETWORK}",
        f"--hostname-override={layout.NODES[0].name}",
        f"--nodeport-addresses={layout.NODE_NETWORK}",
        f"--metrics-bind-address=127.0.0.1:{layout.PROXY_METRICS_PORT}",
        f"--healthz-bind-address=127.0.0.1:{layout.PROXY_HEALTH_PORT}",
        # The machine's connection tracking is left as it is.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
        "--iptables-localhost-nodeports=false",
    ]
    launch(journal, "kube-controller-manager", controller_manager)
    launch(journal, "kube-scheduler", scheduler)
    launch(journal, "kube-proxy", proxy)


def start_registry(journal: Journal, programs: Programs) -> Identity:
    """Start a registry with plain HTTP on loopback, as containerd and buildah expect it there."""
    configuration = layout.state_dir() / "registry.yaml"
    configuration.write_text(
        "version: 0.1\n"
        "log: {level: warn}\n"
        f"storage: {{filesystem: {{rootdirectory: {layout.state_dir() / 'registry'}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{layout.REGISTRY}'}}\n"
    )
    command = [str(programs.registry / "registry"), "serve", str(configuration)]
    # Without an exporter it would try to send traces to a collector on this machine.
    return launch(journal, "registry", command, {"OTEL_TRACES_EXPORTER": "none"})


def registry_answers() -> bool:
    return client.healthy(f"http://{layout.REGISTRY}/v2/")


def check_ports() -> None:
    """Raise TestbedError if another program has one of the fixed ports."""
    for port in (layout.ETCD_PORT, layout.ETCD_PEER_PORT, layout.API_PORT, layout.REGISTRY_PORT):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise TestbedError(
                    f"another program uses the testbed's port {port}: stop it first"
                ) from error
