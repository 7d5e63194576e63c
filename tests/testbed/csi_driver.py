"""One node's CSI plugin for static CephFS volumes: what kubelet talks to, as it would to ceph-csi.

A stand-in, since ceph-csi itself needs Ceph's C libraries at compile time. What it asks of a
volume, in which order, and the texts with which it refuses are those of ceph-csi 3.14, as they are
what a user reads in a pod's events (internal/cephfs of https://github.com/ceph/ceph-csi); so are
the arguments of ceph-fuse. On purpose it differs in one point: ceph-csi passes on what ceph-fuse
prints, which for some faults is the key itself; here the key is blacked out.

Only the FUSE mounter, and only volumes with staticVolume "true". Run as a program by testbed.csi.
"""

import argparse
import json
import logging
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]

from testbed import mounts
from testbed.csi import DRIVER

BLACKED_OUT = "***"
TRUE = {"1", "t", "T", "true", "TRUE", "True"}
FALSE = {"0", "f", "F", "false", "FALSE", "False"}

log = logging.getLogger("csi")


class Refused(Exception):
    """The answer to kubelet: a gRPC status, and the text that kubelet makes an event of."""

    def __init__(self, text: str, code: grpc.StatusCode = grpc.StatusCode.INTERNAL) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Volume:
    """A static volume's attributes, checked."""

    monitors: str
    root_path: str
    fs_name: str
    fuse_options: str

    @classmethod
    def of(cls, attributes: Mapping[str, str], clusters: Path) -> "Volume":
        try:
            static = attributes.get("staticVolume", "false")
            if static not in TRUE | FALSE:
                raise Refused(
                    f'failed to parse preProvisionedVolume: strconv.ParseBool: parsing "{static}": invalid syntax'
                )
            if static in FALSE:  # ceph-csi then takes it for a volume of its first releases
                raise Refused("missing required field monitors")
            monitors = _monitors(attributes, clusters)
            root_path = _required(attributes, "rootPath")
            fs_name = _optional(attributes, "fsName")
            fuse_options = _optional(attributes, "fuseMountOptions")
            mounter = _optional(attributes, "mounter")
            if mounter not in {"", "fuse", "kernel"}:
                raise Refused(f"unknown mounter '{mounter}'. Valid options are 'fuse' and 'kernel'")
        except Refused as refusal:
            # ceph-csi wraps these twice: https://github.com/ceph/ceph-csi/pull/5460 shows such an
            # event.
            raise Refused(f"rpc error: code = Internal desc = {refusal}") from None
        return cls(monitors, root_path, fs_name, fuse_options)


def _monitors(attributes: Mapping[str, str], clusters: Path) -> str:
    """By the ceph-csi-config ConfigMap's config.json: which monitors a clusterID stands for."""
    if "clusterID" not in attributes:
        raise Refused("clusterID must be set")
    cluster_id = _required(attributes, "clusterID")
    for known in json.loads(clusters.read_text()):
        if known["clusterID"] == cluster_id:
            return ",".join(known["monitors"])
    why = f'missing configuration for cluster ID "{cluster_id}"'
    raise Refused(f"failed to fetch monitor list using clusterID ({cluster_id}): {why}")


def _required(attributes: Mapping[str, str], name: str) -> str:
    if name not in attributes:
        raise Refused(f"missing required field {name}")
    return _optional(attributes, name)


def _optional(attributes: Mapping[str, str], name: str) -> str:
    if attributes.get(name) == "":
        raise Refused(f"parameter '{name}' cannot be empty")
    return attributes.get(name, "")


@dataclass(frozen=True)
class User:
    """The Ceph user of a node-stage Secret."""

    id: str
    key: str

    @classmethod
    def of(cls, secret: Mapping[str, str]) -> "User":
        context = "failed to get user credentials from node stage secrets"
        if "userID" not in secret:
            raise Refused(f"{context}: missing ID field 'userID' in secrets")
        if not secret.get("userKey"):
            raise Refused(f"{context}: missing key field 'userKey' in secrets")
        return cls(secret["userID"], secret["userKey"])


class Plugin:
    """The methods of the three gRPC services, each named as its call.

    Requests and answers are protobuf messages.
    """

    def __init__(
        self, node: str, socket: Path, clusters: Path, folder: Path, csi: Any, registration: Any
    ) -> None:
        self.node, self.socket, self.clusters = node, socket, clusters
        self.csi, self.registration = csi, registration
        self.configuration = folder / "ceph.conf"
        self.keys = folder / "keys"
        self.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    # pluginregistration.Registration, which kubelet's plugin watcher calls

    def GetInfo(self, _request: Any) -> Any:  # noqa: N802
        return self.registration.PluginInfo(
            type="CSIPlugin", name=DRIVER, endpoint=str(self.socket), supported_versions=["1.0.0"]
        )

    def NotifyRegistrationStatus(self, request: Any) -> Any:  # noqa: N802
        log.info("registered with kubelet: %s %s", request.plugin_registered, request.error)
        return self.registration.RegistrationStatusResponse()

    # csi.v1.Identity

    def GetPluginInfo(self, _request: Any) -> Any:  # noqa: N802
        return self.csi.GetPluginInfoResponse(name=DRIVER, vendor_version="testbed")

    def GetPluginCapabilities(self, _request: Any) -> Any:  # noqa: N802
        return self.csi.GetPluginCapabilitiesResponse()

    def Probe(self, _request: Any) -> Any:  # noqa: N802
        answer = self.csi.ProbeResponse()
        answer.ready.value = True
        return answer

    # csi.v1.Node

    def NodeGetInfo(self, _request: Any) -> Any:  # noqa: N802
        return self.csi.NodeGetInfoResponse(node_id=self.node)

    def NodeGetCapabilities(self, _request: Any) -> Any:  # noqa: N802
        answer = self.csi.NodeGetCapabilitiesResponse()
        answer.capabilities.add().rpc.type = self.csi.NodeServiceCapability.RPC.STAGE_UNSTAGE_VOLUME
        return answer

    def NodeStageVolume(self, request: Any) -> Any:  # noqa: N802
        """Mount the file system for all pods of the node."""
        if not request.secrets:
            raise Refused("stage secrets cannot be nil or empty", grpc.StatusCode.INVALID_ARGUMENT)
        with self._alone(request.volume_id):
            volume = Volume.of(request.volume_context, self.clusters)
            staging = Path(request.staging_target_path)
            if not _mounted(staging):
                user = User.of(request.secrets)
                self._mount(
                    volume, user, staging, self._fuse_options(volume, request.volume_capability)
                )
            return self.csi.NodeStageVolumeResponse()

    def NodePublishVolume(self, request: Any) -> Any:  # noqa: N802
        """Mount it for one pod."""
        staging, target = Path(request.staging_target_path), Path(request.target_path)
        if not _mounted(staging):
            raise Refused(
                f"staging path {staging} for volume {request.volume_id} is not a mountpoint"
            )
        target.mkdir(mode=0o750, parents=True, exist_ok=True)
        if not _mounted(target):
            flags = ["bind", "_netdev", *(["ro"] if request.readonly else [])]
            flags += [
                flag for flag in request.volume_capability.mount.mount_flags if flag not in flags
            ]
            _run("mount", "-o", ",".join(flags), str(staging), str(target))
            if request.readonly:  # a bind mount takes `ro` only the second time
                _run("mount", "-o", ",".join([*flags, "remount"]), str(target))
        return self.csi.NodePublishVolumeResponse()

    def NodeUnpublishVolume(self, request: Any) -> Any:  # noqa: N802
        target = Path(request.target_path)
        if _mounted(target):
            _run("umount", str(target))
        if target.exists():
            target.rmdir()
        return self.csi.NodeUnpublishVolumeResponse()

    def NodeUnstageVolume(self, request: Any) -> Any:  # noqa: N802
        with self._alone(request.volume_id):
            staging = Path(request.staging_target_path)
            if _mounted(staging):
                _run("umount", str(staging))  # ceph-fuse then ends
            return self.csi.NodeUnstageVolumeResponse()

    def _fuse_options(self, volume: Volume, capability: Any) -> str:
        options = ["nonempty"]
        options += [volume.fuse_options] if volume.fuse_options else []
        options += capability.mount.mount_flags
        modes = self.csi.VolumeCapability.AccessMode
        if capability.access_mode.mode in {
            modes.MULTI_NODE_READER_ONLY,
            modes.SINGLE_NODE_READER_ONLY,
        }:
            options.append("ro")
        return ",".join(options)

    def _mount(self, volume: Volume, user: User, staging: Path, options: str) -> None:
        # In a file, as arguments are for every process of the node to read.
        with tempfile.NamedTemporaryFile("w", dir=self.keys, prefix="keyfile-") as key_file:
            key_file.write(user.key)
            key_file.flush()
            arguments = [str(staging), "-m", volume.monitors, "-c", str(self.configuration)]
            arguments += [
                "-n",
                f"client.{user.id}",
                f"--keyfile={key_file.name}",
                "-r",
                volume.root_path,
                "-o",
                options,
            ]
            if volume.fs_name:
                arguments.append(f"--client_mds_namespace={volume.fs_name}")
            printed = _run("ceph-fuse", *arguments, secret=user.key.strip())
        if not _mounted(staging):
            raise Refused(f"ceph-fuse failed: {printed}")

    @contextmanager
    def _alone(self, volume_id: str) -> Iterator[None]:
        """Kubelet asks again when an answer takes long; the first request is then still at work."""
        with self._lock:
            if volume_id in self._busy:
                text = f"an operation with the given Volume ID {volume_id} already exists"
                raise Refused(text, grpc.StatusCode.ABORTED)
            self._busy.add(volume_id)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(volume_id)


def _mounted(path: Path) -> bool:
    """Look into the kernel's table: the path itself hangs, or fails, where ceph-fuse is gone."""
    return path in mounts.below(path)


def _run(program: str, *arguments: str, secret: str = "") -> str:
    """Run a program; return its stderr with the secret blacked out."""
    done = subprocess.run(
        [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    printed = done.stderr.replace(secret, BLACKED_OUT) if secret else done.stderr
    if done.returncode != 0:
        shown = ["--keyfile=***stripped***" if a.startswith("--keyfile=") else a for a in arguments]
        raise Refused(
            f"an error (exit status {done.returncode}) occurred while running {program} args: [{' '.join(shown)}] "
            f"stderr: {printed}"
        )
    return printed


SERVICES = {
    "Identity": ("GetPluginInfo", "GetPluginCapabilities", "Probe"),
    "Node": (
        "NodeGetInfo",
        "NodeGetCapabilities",
        "NodeStageVolume",
        "NodeUnstageVolume",
        "NodePublishVolume",
        "NodeUnpublishVolume",
    ),
    "Registration": ("GetInfo", "NotifyRegistrationStatus"),
}


def _service(plugin: Plugin, messages: Any, name: str) -> grpc.GenericRpcHandler:
    described = messages.DESCRIPTOR.services_by_name[name]
    handlers = {}
    for method in SERVICES[name]:
        request = getattr(messages, described.methods_by_name[method].input_type.name)
        handlers[method] = grpc.unary_unary_rpc_method_handler(
            _answering(getattr(plugin, method)),
            request_deserializer=request.FromString,
            response_serializer=lambda answer: answer.SerializeToString(),
        )
    return grpc.method_handlers_generic_handler(described.full_name, handlers)


def _answering(method: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        what = f"{method.__name__} {getattr(request, 'volume_id', '')}"
        try:
            done = method(request)
        except Refused as refusal:
            log.info("%s: %s %s", what, refusal.code.name, refusal)
            context.abort(refusal.code, str(refusal))
        except Exception as error:
            log.exception(what)
            context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        log.info("%s: done", what)
        return done

    return answer


def _serve(socket: Path, *services: grpc.GenericRpcHandler) -> grpc.Server:
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), handlers=services)
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    return server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", required=True)
    parser.add_argument("--kubelet", required=True, type=Path, help="kubelet's root folder")
    parser.add_argument("--clusters", required=True, type=Path, help="config.json as ceph-csi's")
    parser.add_argument(
        "--folder",
        required=True,
        type=Path,
        help="holds ceph.conf; keys are kept there while mounting",
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    # Both files are found by sys.path.
    csi, registration = grpc.protos("csi.proto"), grpc.protos("api.proto")
    socket = options.kubelet / "plugins" / DRIVER / "csi.sock"
    watched = options.kubelet / "plugins_registry" / f"{DRIVER}-reg.sock"
    plugin = Plugin(options.node, socket, options.clusters, options.folder, csi, registration)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    # Kubelet calls the first as soon as it sees the second.
    servers = [_serve(socket, *(_service(plugin, csi, name) for name in ("Identity", "Node")))]
    servers.append(_serve(watched, _service(plugin, registration, "Registration")))
    ended.wait()
    watched.unlink(missing_ok=True)  # by which kubelet knows
    for server in servers:
        server.stop(grace=1).wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
