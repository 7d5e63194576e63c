"""Static CephFS volumes of the chart on a real CephFS and real kubelets; each fault has its words.

The tests use the chart's own PersistentVolumes and claims, without the rest of the release: a
volume works the same, and a pod's events are the same, in any pod. The messages in FAULTS are those
of Ceph 16's ceph-fuse and of ceph-csi; the kernel client has others, which are not tested here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import ceph as cephfs
from testbed import csi, images, layout, mounts, processes, tools
from testbed.ceph import Ceph, new_key

pytestmark = [pytest.mark.cluster]

CHART = layout.REPOSITORY / "chart"
USER = 10001
"""What the chart's pods run as."""

PATIENCE_S = 90
NODES = [node.name for node in layout.NODES]
NEWLINE = "newline-after-key"
LATE = "late"
"""A Secret that is not there yet."""


@dataclass(frozen=True)
class Fault:
    """An administrator's mistake, and a regular expression for kubelet's event about it."""

    says: str
    user: Callable[[str], str | None] = lambda user: user
    key: Callable[[str], str | None] = lambda key: key
    cephfs: dict[str, str] = field(default_factory=dict)
    """Values of the volume that differ; PATH and OTHER in them are the user's own path and
    another user's.
    """

    secret: str = ""
    """Another Secret than the one that is made."""


FUSE = r"an error \(exit status 1\) occurred while running ceph-fuse args: \[.*=\*\*\*stripped\*\*\*.*\] stderr: .*"
NO_CONFIG = FUSE + r"failed to fetch mon config \(--no-mon-config to skip\)"
NO_KEY = FUSE + r"auth: failed to decode key '\*\*\*\s*'.*failed to fetch mon config"

FAULTS = {
    # A wrong user and a wrong key look the same: the monitor does not say which it is.
    "wrong-key": Fault(NO_CONFIG, key=lambda _: new_key()),
    "wrong-user": Fault(NO_CONFIG, user=lambda _: "nobody"),
    "client-prefix": Fault(NO_CONFIG, user=lambda user: f"client.{user}"),
    "newline-in-user": Fault(NO_CONFIG, user=lambda user: f"{user}\n"),
    "twice-base64": Fault(NO_KEY, key=lambda key: base64.b64encode(key.encode()).decode()),
    "half-a-key": Fault(NO_KEY, key=lambda key: key[:20]),
    "whole-keyring": Fault(NO_KEY, key=lambda key: f"[client.science]\n\tkey = {key}\n"),
    "no-user": Fault("missing ID field 'userID' in secrets", user=lambda _: None),
    "no-key": Fault("missing key field 'userKey' in secrets", key=lambda _: None),
    "outside-the-caps": Fault(FUSE + "non-allowable root", cephfs={"rootPath": "OTHER"}),
    "no-such-path": Fault(
        FUSE + r"ceph mount failed with \(2\) No such file", cephfs={"rootPath": "PATH/nope"}
    ),
    "wrong-fs-name": Fault(FUSE + "mdsmap subscription failed", cephfs={"fsName": "nofs"}),
    "wrong-cluster-id": Fault(
        r"failed to fetch monitor list using clusterID \(nocluster\): missing configuration for cluster ID",
        cephfs={"clusterID": "nocluster"},
    ),
    "monitors-down": Fault(NO_CONFIG, cephfs={"clusterID": csi.UNREACHABLE}),
    "no-secret": Fault(f'secrets "{LATE}" not found', secret=LATE),
}
# These two are faults of the whole site, and have a test each.
MDS_DOWN = FUSE + r"probably no MDS server is up\?"
NO_PLUGIN = r"driver name cephfs\.csi\.ceph\.com not found in the list of registered CSI drivers"


class Site:
    """A namespace with volumes of the chart and pods that mount them."""

    def __init__(self, ceph: Ceph) -> None:
        self.ceph = ceph
        self.namespace = f"ceph-{uuid.uuid4().hex[:6]}"
        kubectl = str(tools.ensure() / "kubectl")
        self._kubectl = [
            kubectl,
            f"--kubeconfig={layout.kubeconfig()}",
            f"--namespace={self.namespace}",
        ]
        # The chart refuses a key in the workers' namespace: its users could read it.
        self.secrets = f"{self.namespace}-keys"
        for name in (self.namespace, self.secrets):
            self.kubectl("create", "namespace", name)

    def kubectl(
        self, *arguments: str, input: str | None = None, seconds: float = PATIENCE_S
    ) -> str:
        done = subprocess.run(
            [*self._kubectl, *arguments],
            input=input,
            text=True,
            capture_output=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Each object in the namespace that it names, or else in the site's own."""
        for one in objects:
            one["metadata"].setdefault("namespace", self.namespace)
        command = [part for part in self._kubectl if not part.startswith("--namespace")]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        done = subprocess.run(
            [*command, "apply", "-f", "-"], input=text, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr

    def secret(self, name: str, **data: str | None) -> None:
        self.apply(self.secret_object(name, **data))

    def secret_object(self, name: str, **data: str | None) -> dict[str, Any]:
        encoded = {
            key: base64.b64encode(value.encode()).decode()
            for key, value in data.items()
            if value is not None
        }
        metadata = {"name": name, "namespace": self.secrets}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}

    def make_volumes(self, release: str, storage: dict[str, Any]) -> None:
        """Create the chart's PersistentVolumes and claims, and wait until they are bound.

        A pod that comes before that waits longer: kubelet says "PVC is not bound", and looks again
        seconds later.
        """
        values = {"workflow": {"call": "a:b"}, "executors": {"workers": {}}, "storage": storage}
        done = subprocess.run(
            [tools.ensure() / "helm", "template", release, CHART, "-n", self.namespace, "-f", "-"],
            input=json.dumps(values),
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        made = [one for one in yaml.safe_load_all(done.stdout) if one]
        self.apply(
            *(one for one in made if one["kind"] in ("PersistentVolume", "PersistentVolumeClaim"))
        )
        claims = [f"pvc/{release}-{key}" for key in storage]
        self.kubectl(
            "wait", "--for=jsonpath={.status.phase}=Bound", f"--timeout={PATIENCE_S}s", *claims
        )

    def cephfs(self, root_path: str, secret: str, **others: str) -> dict[str, Any]:
        return {
            "clusterID": self.ceph.cluster_id,
            "fsName": self.ceph.fs_name,
            "rootPath": root_path,
            "secret": {"name": secret, "namespace": self.secrets},
            "mounter": "fuse",
        } | others

    def pod(self, name: str, node: str, claims: dict[str, str]) -> dict[str, Any]:
        """A pod that waits for commands, with each claim mounted at /KEY."""
        container = {
            "name": "main",
            "image": images.known()["k8s-parsl"],
            "command": ["python3", "-c", "import signal; signal.sigwait([signal.SIGTERM])"],
            "volumeMounts": [{"name": key, "mountPath": f"/{key}"} for key in claims],
        }
        spec = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "securityContext": {"runAsUser": USER, "runAsGroup": USER},
            "containers": [container],
            "volumes": [
                {"name": k, "persistentVolumeClaim": {"claimName": claim}}
                for k, claim in claims.items()
            ],
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

    def running(self, *pods: str, seconds: int = PATIENCE_S) -> None:
        names = [f"pod/{name}" for name in pods]
        self.kubectl(
            "wait", "--for=condition=Ready", f"--timeout={seconds}s", *names, seconds=seconds + 5
        )

    def python(self, pod: str, code: str) -> str:
        return self.kubectl("exec", pod, "--", "python3", "-c", code).strip()

    @contextlib.contextmanager
    def talking(self, pod: str, code: str) -> Iterator[subprocess.Popen[str]]:
        """Python in the pod that goes on while the test does something else."""
        with subprocess.Popen(
            [*self._kubectl, "exec", "-i", pod, "--", "python3", "-u", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def failures(self, wanted: dict[str, str], seconds: int = PATIENCE_S) -> dict[str, str]:
        """Return each pod's first FailedMount event that matches, or its last one."""
        found: dict[str, str] = {}
        left = dict(wanted)
        command = ["get", "events", "--watch", "-o", "json", "--field-selector=reason=FailedMount"]
        with self._watching(command, seconds) as events:
            for event in events:
                pod = event["involvedObject"]["name"]
                if pod in left:
                    found[pod] = event["message"]
                    if re.search(left[pod], event["message"], re.DOTALL):
                        del left[pod]
                if not left:
                    break
        return found

    @contextlib.contextmanager
    def _watching(self, command: list[str], seconds: int) -> Iterator[Iterator[dict[str, Any]]]:
        process = subprocess.Popen(
            [*self._kubectl, f"--request-timeout={seconds}s", *command],  # which ends the watch
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        try:
            yield _objects(process.stdout)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def persistent_volumes(self) -> list[dict[str, Any]]:
        found = json.loads(self.kubectl("get", "pv", "-o", "json"))["items"]
        return [
            one
            for one in found
            if one["spec"].get("claimRef", {}).get("namespace") == self.namespace
        ]

    def staged(self, handles: set[str]) -> list[Path]:
        """Return where kubelets mount these volumes: in folders named by the hash of a handle."""
        hashes = {hashlib.sha256(handle.encode()).hexdigest() for handle in handles}
        return [point for point in mounts.below(layout.state_dir()) if point.parent.name in hashes]

    def close(self) -> None:
        self.kubectl("delete", "pods", "--all", "--now")
        volumes = [volume["metadata"]["name"] for volume in self.persistent_volumes()]
        self.kubectl("delete", "namespace", self.namespace, self.secrets, "--wait=false")
        if volumes:
            self.kubectl("delete", "pv", "--wait=false", *volumes)


def _objects(stream: Any) -> Iterator[dict[str, Any]]:
    """JSON objects that follow each other, each ending in its own line."""
    lines: list[str] = []
    for line in stream:
        lines.append(line)
        if line.rstrip("\n") == "}":
            yield json.loads("".join(lines))
            lines.clear()


@dataclass(frozen=True)
class Science:
    """A user with a separate subvolume, as an administrator sets them up."""

    user: str
    key: str
    path: str
    reader: str
    reader_key: str


@pytest.fixture(scope="session")
def ceph() -> Ceph:
    if os.environ.get("TEST_KUBECONFIG"):
        pytest.skip("the CephFS is for the testbed's own kubelets")
    made = cephfs.ensure()
    csi.ensure(made)
    return made


@pytest.fixture(scope="module")
def site(ceph: Ceph) -> Iterator[Site]:
    site = Site(ceph)
    yield site
    site.close()


@pytest.fixture(scope="module")
def science(ceph: Ceph, site: Site) -> Iterator[Science]:
    user, reader = f"science-{site.namespace}", f"reader-{site.namespace}"
    path = ceph.subvolume(site.namespace, uid=USER, gid=USER, mode="0755")
    made = Science(
        user, ceph.authorize(user, path), path, reader, ceph.authorize(reader, path, "r")
    )
    site.secret("science", userID=user, userKey=made.key)
    site.secret("reader", userID=reader, userKey=made.reader_key)
    yield made
    for one in (user, reader):
        ceph.revoke(one)


@pytest.fixture(scope="module")
def plain(ceph: Ceph, site: Site) -> str:
    """Path of a subvolume with Ceph's defaults, and a Secret `plain` to mount it with."""
    path = ceph.subvolume(f"{site.namespace}-plain")
    site.secret(
        "plain",
        userID=f"plain-{site.namespace}",
        userKey=ceph.authorize(f"plain-{site.namespace}", path),
    )
    return path


@pytest.fixture(scope="module")
def pods(site: Site, science: Science, plain: str) -> list[str]:
    """A pod on each node, with the volume at /data and /archive, the plain one at /plain."""
    storage = {
        "data": {"mountPath": "/data", "cephfs": site.cephfs(science.path, "science")},
        "archive": {
            "mountPath": "/archive",
            "accessModes": ["ReadOnlyMany"],
            "readOnly": True,
            "cephfs": site.cephfs(science.path, "reader"),
        },
        "plain": {"mountPath": "/plain", "cephfs": site.cephfs(plain, "plain")},
    }
    site.make_volumes("pdgrun", storage)
    site.apply(*(site.pod(node, node, {key: f"pdgrun-{key}" for key in storage}) for node in NODES))
    site.running(*NODES)
    return NODES


@pytest.fixture(scope="module")
def said(site: Site, science: Science, plain: str) -> dict[str, str]:
    """What kubelet said of each fault; all at once, as kubelet mounts them side by side."""
    # As `echo KEY | base64` makes it; this one is no fault.
    secrets = [site.secret_object(NEWLINE, userID=science.user, userKey=f"{science.key}\n")]
    storage: dict[str, Any] = {
        NEWLINE: {"mountPath": "/newline", "cephfs": site.cephfs(science.path, NEWLINE)}
    }
    for name, fault in FAULTS.items():
        secrets.append(
            site.secret_object(
                name, userID=fault.user(science.user), userKey=fault.key(science.key)
            )
        )
        paths = {"PATH": science.path, "OTHER": plain}
        differing = {
            key: re.sub("PATH|OTHER", lambda found: paths[found[0]], value)
            for key, value in fault.cephfs.items()
        }
        volume = site.cephfs(science.path, fault.secret or name) | differing
        storage[name] = {"mountPath": f"/{name}", "cephfs": volume}
    site.make_volumes("faults", storage)
    site.apply(
        *secrets,
        *(
            site.pod(name, NODES[n % 2], {"data": f"faults-{name}"})
            for n, name in enumerate(storage)
        ),
    )
    said = site.failures({name: fault.says for name, fault in FAULTS.items()})
    # Kubelet would go on trying all through the other tests.
    site.kubectl("delete", "pod", "--now", "--wait=false", *(FAULTS.keys() - {"no-secret"}))
    return said


def test_what_one_node_writes_the_other_reads_at_once(site: Site, pods: list[str]) -> None:
    site.python(pods[0], "open('/data/from-first', 'w').write('first')")
    assert site.python(pods[1], "print(open('/data/from-first').read())") == "first"
    site.python(pods[1], "open('/data/from-first', 'a').write(' second')")
    assert site.python(pods[0], "print(open('/data/from-first').read())") == "first second"


@pytest.mark.parametrize("function", ["flock", "lockf"])
def test_a_lock_holds_across_nodes(site: Site, pods: list[str], function: str) -> None:
    take = f"import fcntl; file = open('/data/lock', 'w'); fcntl.{function}(file, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    held = f"""
{take}
print('held', flush=True)
input()
"""
    other = f"""
try:
    {take}
    print('taken')
except BlockingIOError:
    print('refused')
"""
    with site.talking(pods[0], held) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert site.python(pods[1], other) == "refused"
        holder.communicate("\n", timeout=PATIENCE_S)
    assert site.python(pods[1], other) == "taken"


def test_read_only_many_can_be_read_and_not_written(site: Site, pods: list[str]) -> None:
    site.python(pods[0], "open('/data/archived', 'w').write('kept')")
    write = """
import errno
print(open('/archive/archived').read())
try:
    open('/archive/new', 'w')
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    assert site.python(pods[1], write).split() == ["kept", "EROFS"]


def test_a_subvolume_made_for_the_user_needs_no_fs_group(site: Site, pods: list[str]) -> None:
    assert site.python(
        pods[0], "import os; s = os.stat('/data'); print(s.st_uid, s.st_gid, oct(s.st_mode))"
    ).split() == [
        str(USER),
        str(USER),
        "0o40755",
    ]


def test_a_subvolume_made_without_an_owner_cannot_be_written(site: Site, pods: list[str]) -> None:
    write = """
import errno
try:
    open('/plain/new', 'w')
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    assert site.python(pods[0], write) == "EACCES"


def test_the_quota_is_what_a_pod_sees_as_size(site: Site, pods: list[str]) -> None:
    size = "import os; s = os.statvfs('/data'); print(s.f_blocks * s.f_frsize >> 30)"
    assert site.python(pods[0], size) == "10"


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_reported_in_these_words(said: dict[str, str], name: str) -> None:
    assert re.search(FAULTS[name].says, said.get(name, "no event"), re.DOTALL), said.get(name)


def test_the_pod_recovers_when_its_secret_comes_late(
    site: Site, science: Science, said: dict[str, str]
) -> None:
    site.secret(LATE, userID=science.user, userKey=science.key)
    site.running("no-secret")


def test_a_newline_after_the_key_does_no_harm(site: Site, said: dict[str, str]) -> None:
    site.running(NEWLINE)


def test_no_key_is_in_an_event_or_a_log(site: Site, science: Science, said: dict[str, str]) -> None:
    keys = {
        science.key,
        science.reader_key,
        science.key[:20],
        base64.b64encode(science.key.encode()).decode(),
    }
    events = site.kubectl("get", "events", "-o", "json")
    logs = {log.name: log.read_text(errors="replace") for log in layout.log_dir().glob("c*.log")}
    assert {"csi-node1.log", "csi-node2.log", "ceph-mon.log"} <= logs.keys()
    for name, text in {"events": events, **logs}.items():
        assert not [key for key in keys if key in text], name


def test_without_a_metadata_server_nothing_mounts_and_what_is_mounted_waits(
    site: Site, science: Science, pods: list[str]
) -> None:
    site.make_volumes(
        "waits", {"data": {"mountPath": "/data", "cephfs": site.cephfs(science.path, "science")}}
    )
    site.ceph.stop_mds()
    try:
        site.apply(site.pod("waits", NODES[0], {"data": "waits-data"}))
        words = site.failures({"waits": MDS_DOWN})
        assert re.search(MDS_DOWN, words.get("waits", "no event"), re.DOTALL)
    finally:
        site.ceph.start_mds()
    site.running("waits")
    site.python(pods[0], "open('/data/after', 'w').write('after')")
    assert site.python("waits", "print(open('/data/after').read())") == "after"


def test_without_the_plugin_nothing_mounts_until_it_is_back(site: Site, science: Science) -> None:
    storage = {"data": {"mountPath": "/data", "cephfs": site.cephfs(science.path, "science")}}
    site.make_volumes("unplugged", storage)
    node = layout.NODES[1]
    csi.stop(node)
    try:
        site.apply(site.pod("unplugged", node.name, {"data": "unplugged-data"}))
        words = site.failures({"unplugged": NO_PLUGIN})
        assert re.search(NO_PLUGIN, words.get("unplugged", "no event"))
    finally:
        csi.ensure(site.ceph)
    site.running("unplugged")


def test_the_data_outlives_its_volumes_and_a_new_release_finds_it(
    site: Site, science: Science, pods: list[str]
) -> None:
    site.python(pods[0], "open('/data/kept', 'w').write('kept')")
    volume = site.kubectl("get", "pvc", "pdgrun-data", "-o", "jsonpath={.spec.volumeName}")
    site.kubectl("delete", "pod", *pods, "--now")
    site.kubectl("delete", "pvc", "pdgrun-data")
    site.kubectl("delete", "pv", volume)
    site.make_volumes(
        "again", {"data": {"mountPath": "/data", "cephfs": site.cephfs(science.path, "science")}}
    )
    site.apply(site.pod("again", NODES[1], {"data": "again-data"}))
    site.running("again")
    assert site.python("again", "print(open('/data/kept').read())") == "kept"


def test_nothing_stays_mounted_after_the_last_pod(site: Site, science: Science) -> None:
    """The last test of the module, as it ends all pods."""
    site.kubectl("delete", "pods", "--all", "--now")
    handles = {volume["metadata"]["name"] for volume in site.persistent_volumes()}
    deadline = time.monotonic() + PATIENCE_S
    while left := site.staged(handles):
        assert time.monotonic() < deadline, left
        time.sleep(
            processes.POLL
        )  # kubelet unmounts after the pod is gone, and has no event for it
