"""A real CephFS on this machine for the testbed's kubelets, as a Ceph administrator makes it.

One monitor, manager, OSD and metadata server of Debian's packages, with cephx, on their own
loopback address and with Ceph's own ports, as clients try another protocol first at a monitor
on any other port. The OSD keeps its objects in memory: a cluster is quicker made than repaired.
Nothing is written outside the testbed's folder. The daemons inherit its marker, so that `python -m
testbed down` ends them and unmounts their mounts, also when the process that started them is gone.
"""

import base64
import contextlib
import json
import secrets
import shutil
import socket
import struct
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from testbed import cluster, layout, packages, processes
from testbed.journal import Journal, Process
from testbed.layout import TestbedError
from testbed.packages import Package
from testbed.processes import Identity

ADDRESS = "127.0.67.89"
MONITOR_PORTS = {"v2": 3300, "v1": 6789}
FS_NAME = "cephfs"
GROUP = "k8s-parsl"
"""Subvolume group of all our subvolumes."""

PACKAGES = (
    Package("ceph-mon", "ceph-mon"),
    Package("ceph-mgr", "ceph-mgr"),
    Package("ceph-osd", "ceph-osd"),
    Package("ceph-mds", "ceph-mds"),
    Package("ceph-common", "ceph"),
    Package("ceph-fuse", "ceph-fuse"),
)

START_SECONDS = 120.0
COMMAND_SECONDS = 60

# What each daemon may do, as in https://docs.ceph.com/en/pacific/rados/operations/user-management/
CAPABILITIES = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mds": "allow *", "mgr": "allow *"},
    "mgr.x": {"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"},
    "osd.0": {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"},
    "mds.a": {
        "mon": "allow profile mds",
        "mgr": "allow profile mds",
        "osd": "allow rwx",
        "mds": "allow *",
    },
}
COMMANDS = {
    "ceph-mon": ["ceph-mon", "--id", "a"],
    "ceph-mgr": ["ceph-mgr", "--id", "x"],
    "ceph-osd": ["ceph-osd", "--id", "0"],
    "ceph-mds": ["ceph-mds", "--id", "a"],
}


@dataclass(frozen=True)
class Ceph:
    """A running Ceph cluster with one file system, and what its administrator does with it."""

    cluster_id: str
    """The cluster's fsid, which is also its clusterID in ceph-csi's configuration."""

    folder: Path
    monitors: tuple[str, ...] = (f"{ADDRESS}:{MONITOR_PORTS['v1']}",)
    fs_name: str = FS_NAME

    def subvolume(
        self,
        name: str,
        *,
        size: int = 10 << 30,
        uid: int | None = None,
        gid: int | None = None,
        mode: str = "",
    ) -> str:
        """Make the subvolume if there is none of that name, and give its root path.

        `size` is a quota in bytes. Without uid, gid and mode (octal: "0775") the root is root:root
        0755.
        """
        options = [f"--size={size}"]
        options += [] if uid is None else [f"--uid={uid}"]
        options += [] if gid is None else [f"--gid={gid}"]
        options += [f"--mode={mode}"] if mode else []
        self.command("fs", "subvolume", "create", FS_NAME, name, GROUP, *options)
        return self.command("fs", "subvolume", "getpath", FS_NAME, name, GROUP).strip()

    def authorize(self, user: str, path: str, access: Literal["r", "rw"] = "rw") -> str:
        """Create client.USER, which may use that path and nothing else; return its key."""
        made = json.loads(
            self.command(
                "fs", "authorize", FS_NAME, f"client.{user}", path, access, "--format=json"
            )
        )
        return str(made[0]["key"])

    def revoke(self, user: str) -> None:
        """Delete client.USER, if there is one: its key mounts nothing any more; mounts stay."""
        self.command("auth", "rm", f"client.{user}")

    def stop_mds(self) -> None:
        """Kill the metadata server and mark it failed: the monitor would need 15 s to notice."""
        identity = self.journal().processes().get("ceph-mds")
        if identity is not None:
            processes.stop([identity], grace=0)
        self.command("mds", "fail", "a")

    def start_mds(self) -> None:
        """Start it again, if it does not run; return when it serves."""
        running = self.journal().processes()
        if "ceph-mds" not in running or not running["ceph-mds"].alive():
            running["ceph-mds"] = _launch(self, "ceph-mds")
        processes.wait_for(
            "the metadata server", self.mds_active, seconds=START_SECONDS, processes=running
        )

    def mds_active(self) -> bool:
        state: Any = json.loads(self.command("mds", "stat", "--format=json"))
        ranks = (
            rank for fs in state["fsmap"]["filesystems"] for rank in fs["mdsmap"]["info"].values()
        )
        return any(rank["state"] == "up:active" for rank in ranks)

    def command(self, *arguments: str, seconds: int = COMMAND_SECONDS) -> str:
        """Run `ceph ARGUMENTS` as client.admin; return its output.

        TestbedError has Ceph's own words.
        """
        command = [
            "ceph",
            f"--conf={self.folder / 'ceph.conf'}",
            f"--connect-timeout={seconds}",
            *arguments,
        ]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + 5,
            )
        except subprocess.TimeoutExpired:
            raise TestbedError(
                f"ceph {' '.join(arguments)}: no answer within {seconds} s; {_logs()}"
            ) from None
        if done.returncode != 0:
            words = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise TestbedError(f"ceph {' '.join(arguments)}: {words}; {_logs()}")
        return done.stdout

    def journal(self) -> Journal:
        """Return the journal of the daemons.

        In the cluster's own journal a dead metadata server would count as a dead testbed.
        """
        return Journal(self.folder / "journal.jsonl")


def ensure() -> Ceph:
    """Return the running Ceph; start it if there is none, create it again if it is broken.

    It needs the testbed, whose `down` ends it.
    """
    if not cluster.journal().exists():
        raise TestbedError(
            "the testbed does not run, and only its down ends Ceph: start it with make cluster"
        )
    with cluster.locked("ceph"):
        folder = layout.state_dir() / "ceph"
        ready = folder / "cluster-id"
        if ready.exists():
            found = Ceph(ready.read_text(), folder)
            alive = {
                name for name, identity in found.journal().processes().items() if identity.alive()
            }
            if alive >= COMMANDS.keys() - {"ceph-mds"}:
                found.start_mds()  # a test that stopped it may have been killed
                return found
        _clear(folder)
        packages.ensure(PACKAGES)
        _check_ports()
        made = Ceph(str(uuid.uuid4()), folder)
        _create(made)
        ready.write_text(made.cluster_id)
        return made


def new_key() -> str:
    """Return a cephx key: type 1 (AES), creation time, 16 random bytes with their length."""
    now = time.time_ns()
    header = struct.pack("<HIIH", 1, now // 10**9, now % 10**9, 16)
    return base64.b64encode(header + secrets.token_bytes(16)).decode()


def _create(ceph: Ceph) -> None:
    folder = ceph.folder
    folder.mkdir(mode=0o700)
    for name in ("run", "crash", "mon", "mgr", "osd", "mds"):
        (folder / name).mkdir()
    (folder / "ceph.conf").write_text(_configuration(ceph))
    keys = {entity: new_key() for entity in CAPABILITIES}
    for entity, key in keys.items():
        (folder / f"{entity}.keyring").write_text(_keyring(entity, key))
    # The monitor starts with all of them, instead of being asked for each one later; its own entity
    # is "mon.".
    (folder / "all.keyring").write_text(
        "".join(_keyring(entity, key) for entity, key in keys.items())
    )
    shutil.copy(folder / "mon..keyring", folder / "mon.a.keyring")
    monmap = f"--addv a {_addresses()} --fsid {ceph.cluster_id} --create {folder / 'monmap'}"
    _run("monmaptool", *monmap.split())
    _run_daemon(
        ceph,
        "ceph-mon",
        "--mkfs",
        f"--monmap={folder / 'monmap'}",
        f"--keyring={folder / 'all.keyring'}",
    )
    running = {"ceph-mon": _launch(ceph, "ceph-mon")}
    processes.wait_for("Ceph's monitor", _monitor_listens, seconds=START_SECONDS, processes=running)
    # Both wait for what is made below.
    running |= {name: _launch(ceph, name) for name in ("ceph-mgr", "ceph-mds")}
    osd = str(uuid.uuid4())
    ceph.command("osd", "new", osd)
    _run_daemon(ceph, "ceph-osd", "--mkfs", f"--osd-uuid={osd}")
    running["ceph-osd"] = _launch(ceph, "ceph-osd")
    for pool in ("meta", "data"):
        ceph.command("osd", "pool", "create", f"{FS_NAME}_{pool}")
    ceph.command("fs", "new", FS_NAME, f"{FS_NAME}_meta", f"{FS_NAME}_data")
    processes.wait_for(
        "Ceph's metadata server", ceph.mds_active, seconds=START_SECONDS, processes=running
    )
    _await_manager(ceph, running)


def _await_manager(ceph: Ceph, running: dict[str, Identity]) -> None:
    """Wait until the manager's module for subvolumes is ready.

    Until then Ceph refuses its commands as unknown.
    """
    refusals = [""]

    def made() -> bool:
        try:
            ceph.command("fs", "subvolumegroup", "create", FS_NAME, GROUP)
        except TestbedError as error:
            refusals.append(str(error))
            return False
        return True

    try:
        processes.wait_for("Ceph's manager", made, seconds=START_SECONDS, processes=running)
    except TestbedError as error:
        raise TestbedError(f"{error}\nlast answer: {refusals[-1]}") from None


def _launch(ceph: Ceph, name: str) -> Identity:
    # In the foreground: its log is then the one that the testbed keeps, and its pid the one that
    # was started.
    identity = processes.start(
        name, [*COMMANDS[name], f"--conf={ceph.folder / 'ceph.conf'}", "--foreground"]
    )
    ceph.journal().record(Process(name, identity.pid, identity.started))
    return identity


def _run_daemon(ceph: Ceph, name: str, *arguments: str) -> None:
    _run(*COMMANDS[name], f"--conf={ceph.folder / 'ceph.conf'}", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    if done.returncode != 0:
        raise TestbedError(f"{' '.join(command)}: {done.stderr.strip()[-1000:]}")


def _logs() -> str:
    return f"the daemons' logs are {processes.log_file('ceph-*')}"


def _monitor_listens() -> bool:
    with (
        contextlib.suppress(OSError),
        socket.create_connection((ADDRESS, MONITOR_PORTS["v1"]), timeout=1),
    ):
        return True
    return False


def _check_ports() -> None:
    for port in MONITOR_PORTS.values():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, port))
            except OSError as error:
                raise TestbedError(
                    f"Ceph's monitor needs {ADDRESS}:{port}: {error.strerror}"
                ) from None


def _clear(folder: Path) -> None:
    """Remove what is left of a Ceph that is broken, or was never finished."""
    if folder.exists():
        processes.stop(Journal(folder / "journal.jsonl").processes().values(), grace=0)
        shutil.rmtree(folder)


def _addresses() -> str:
    return (
        "["
        + ",".join(f"{protocol}:{ADDRESS}:{port}" for protocol, port in MONITOR_PORTS.items())
        + "]"
    )


def _keyring(entity: str, key: str) -> str:
    lines = [
        f"[{entity}]",
        f"key = {key}",
        *(f'caps {kind} = "{caps}"' for kind, caps in CAPABILITIES[entity].items()),
    ]
    return "\n".join(lines) + "\n"


def _configuration(ceph: Ceph) -> str:
    folder = ceph.folder
    return f"""\
[global]
fsid = {ceph.cluster_id}
mon host = {_addresses()}
mon initial members = a
public addr = {ADDRESS}
cluster addr = {ADDRESS}
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {folder}/$name.keyring
# Every place that has a default below /var is named.
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
crash dir = {folder}/crash
# To the testbed's own logs.
log to file = false
log to stderr = true
err to stderr = true
mon cluster log to file = false
mon cluster log to stderr = true
# One copy is what one OSD can keep.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
# The machine's disk may be nearly full without any harm to a store in memory.
mon data avail warn = 2
mon data avail crit = 1
[mon]
mon data = {folder}/mon
[mgr]
mgr data = {folder}/mgr
mgr initial modules = volumes
mgr pool = false
mgr tick period = 1
mgr stats period = 1
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {4 << 30}
osd op num shards = 1
osd op num threads per shard = 1
[mds]
mds data = {folder}/mds
# A file that one client has just renamed is opened by another only when the server's journal is flushed, and a quiet
# server flushes at its tick: 5 s by default, so that each tile handed from task to task cost 5 s (measured).
mds tick interval = 0.2
mds cache memory limit = {64 << 20}
# After a restart it waits this long for the clients that it knew; those of a killed ceph-fuse do not come back.
mds reconnect timeout = 5
[client]
log to stderr = false
admin socket =
"""
