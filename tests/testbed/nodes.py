"""A node: containerd and a kubelet, configured so that two of them run on one machine.

Each has its own folders, sockets, bridge, address and cgroup. Why a setting is as it is stands
beside it: those that look odd were each found by a node that did not start.
"""

import io
import json
import shutil
import subprocess
import tarfile
from hashlib import sha256
from pathlib import Path

from testbed import layout, processes
from testbed.controlplane import Programs, launch
from testbed.journal import Journal
from testbed.layout import Node, TestbedError
from testbed.processes import Identity

CNI_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")


def start_containerd(journal: Journal, programs: Programs, node: Node) -> Identity:
    node.folder.mkdir(parents=True, exist_ok=True)
    _write_cni(node)
    configuration = node.folder / "containerd.toml"
    configuration.write_text(_containerd_toml(node))
    command = [str(programs.containerd / "containerd"), "--config", str(configuration)]
    # containerd finds its shim by PATH.
    path = f"{programs.containerd}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return launch(journal, f"containerd-{node.name}", command, {"PATH": path})


def await_containerd(programs: Programs, node: Node, identity: Identity) -> None:
    """Wait until it serves, and give it the pause image, without which it can start no pod."""
    name = f"containerd-{node.name}"
    processes.wait_for(
        f"containerd of {node.name}",
        lambda: _ctr(programs, node, "version").returncode == 0,
        seconds=30,
        processes={name: identity},
    )
    archive = layout.state_dir() / "pause.tar"
    if not archive.exists():
        write_pause_image(programs.pause / "pause", archive)
    done = _ctr(programs, node, "-n", "k8s.io", "images", "import", str(archive))
    if done.returncode != 0:
        raise TestbedError(
            f"{node.name} does not take the pause image: {done.stderr.strip()}; {processes.tail(name)}"
        )


def start_kubelet(journal: Journal, programs: Programs, node: Node) -> Identity:
    configuration = node.folder / "kubelet.json"
    configuration.write_text(json.dumps(_kubelet_configuration(node), indent=1))
    command = [
        *programs.hyperkube("kubelet"),
        f"--config={configuration}",
        f"--kubeconfig={layout.kubeconfig(node.name)}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.ip}",
        f"--root-dir={node.folder / 'kubelet'}",
    ]
    return launch(journal, f"kubelet-{node.name}", command)


def write_pause_image(program: Path, archive: Path) -> None:
    """Write a docker-archive of an image with only this program, which is small enough by hand."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        member = tar.gettarinfo(str(program), arcname="pause")
        member.mode, member.uid, member.gid = 0o755, 0, 0
        with program.open("rb") as content:
            tar.addfile(member, content)
    digest = sha256(layer.getvalue()).hexdigest()
    configuration = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [
        {"Config": "config.json", "RepoTags": [layout.PAUSE_IMAGE], "Layers": ["layer.tar"]}
    ]
    files = {
        "layer.tar": layer.getvalue(),
        "config.json": json.dumps(configuration).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(archive, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _architecture() -> str:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}
    done = subprocess.run(
        ["uname", "-m"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return machine.get(done, done)


def _ctr(programs: Programs, node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(programs.containerd / "ctr"), "-a", str(node.socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _cni_folders() -> list[str]:
    found = [folder for folder in CNI_FOLDERS if shutil.which("bridge", path=folder)]
    if not found:
        raise TestbedError(
            f"no CNI plugins in {', '.join(CNI_FOLDERS)}: install Debian's containernetworking-plugins"
        )
    return found


def _write_cni(node: Node) -> None:
    folder = node.folder / "cni"
    folder.mkdir(exist_ok=True)
    bridge = {
        "type": "bridge",
        "bridge": node.bridge,
        "isGateway": True,
        # Pods see each other's real addresses, also across nodes; nothing leaves the machine
        # (firewall.guard).
        "ipMasq": False,
        "hairpinMode": True,  # a pod that calls a service may be the one that serves it
        "ipam": {
            "type": "host-local",
            "dataDir": str(node.folder / "addresses"),
            "ranges": [[{"subnet": node.pod_network}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    network = {"cniVersion": "1.0.0", "name": node.bridge, "plugins": [bridge]}
    (folder / "10-bridge.conflist").write_text(json.dumps(network, indent=1))


def _containerd_toml(node: Node) -> str:
    folder = node.folder
    return f"""\
version = 3
root = "{folder}/containerd"
state = "{folder}/run"
# The node resource interface and the optional package folder have places of the machine's own.
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{node.socket}"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{layout.PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE a sandbox cannot lower its score: runc then says "can't get final child's PID from pipe".
  restrict_oom_score_adj = true
  # Network namespaces below our folder and not in /run/netns, so that they are known to be ours.
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = {json.dumps(_cni_folders())}
    conf_dir = "{folder}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def _kubelet_configuration(node: Node) -> dict[str, object]:
    pki = layout.pki_dir()
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.ip,
        "port": layout.KUBELET_PORT,
        "healthzBindAddress": node.ip,
        "healthzPort": layout.KUBELET_HEALTH_PORT,
        "tlsCertFile": str(pki / f"{node.name}.crt"),
        "tlsPrivateKeyFile": str(pki / f"{node.name}.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{node.socket}",
        # Some machines still have cgroup v1; a current kubelet refuses them unless configured
        # otherwise.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": [],
        # Two kubelets with one log folder delete each other's pods' logs.
        "podLogsDir": str(node.folder / "pod-logs"),
        "volumePluginDir": str(node.folder / "volume-plugins"),
        "staticPodPath": "",
        "failSwapOn": False,
        "clusterDNS": [layout.DNS_IP],
        "clusterDomain": "cluster.local",
        # The machine's own resolvers and search list stay out of the pods.
        "resolvConf": str(_resolv_conf(node)),
        "serializeImagePulls": False,
        "maxPods": 110,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        # Faster than a real cluster's, so that a lost node is noticed in the time of a test.
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 12,
    }


def _resolv_conf(node: Node) -> Path:
    path = node.folder / "resolv.conf"
    path.write_text("options ndots:5\n")
    return path
