"""A real Argo CD beside the cluster, for the tests of what it makes of the chart.

Application controller, ApplicationSet controller and repo server, with the Redis that they share
and a git server for what they deploy, all on loopback. Tests write Applications and read their
status through the Kubernetes API, so there is no API server or web page of Argo CD's. The journal
knows the processes, so that `down` ends them; they watch every object of the cluster, so the tests
that used them end them too.
"""

import base64
import json
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import client, cluster, controlplane, layout, parts, processes, tools
from testbed.layout import TestbedError
from testbed.vault import kubectl

NAMESPACE = "argocd"
SERVER = f"https://127.0.0.1:{layout.API_PORT}"
"""The cluster's `destination.server`: Argo CD's default is for an Argo CD in a pod."""

MODULE = "github.com/argoproj/argo-cd/v3"
REDIS_PORT = 18379
GIT_PORT = 18418
REPO_SERVER_PORT = 18081
REPO_SERVER_METRICS_PORT = 18084
CONTROLLER_METRICS_PORT = 18082
APPLICATIONSET_PORTS = {"metrics-addr": 18085, "probe-addr": 18086, "webhook-addr": 18087}
RESYNC_SECONDS = 10
"""Between two looks at an Application without a reason; Argo CD's default is two minutes."""

READY_SECONDS = 60.0
HELM = "helm3"
"""Argo CD 3.2 renders with Helm 3."""


@dataclass(frozen=True)
class Repository:
    """A git repository that Argo CD deploys from: write into `folder`, then commit."""

    folder: Path
    url: str

    def commit(self, message: str) -> str:
        """Commit everything as it is now; return the commit's hash."""
        who = ("-c", "user.name=testbed", "-c", "user.email=testbed@localhost")
        self._git("add", "--all")
        self._git(*who, "commit", "--quiet", "--allow-empty", "--no-gpg-sign", "--message", message)
        return self._git("rev-parse", "HEAD")

    def tag(self, name: str) -> None:
        """Tag the last commit."""
        self._git("tag", "--force", name)

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise TestbedError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()


@dataclass(frozen=True)
class ArgoCD:
    """The running controllers."""

    namespace: str = NAMESPACE
    server: str = SERVER

    def repository(self, name: str) -> Repository:
        """A new, empty repository, branch `main`; an old one of that name is deleted."""
        folder = _folder() / "git" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made = Repository(folder, f"git://127.0.0.1:{GIT_PORT}/{name}")
        made._git("init", "--quiet", "--initial-branch=main")
        return made

    def stop(self) -> None:
        """End the processes; what is in the cluster stays, without a controller."""
        known = cluster.journal().processes()
        processes.stop(known[name] for name in PROGRAMS if name in known)


PROGRAMS = (
    "argocd-redis",
    "argocd-git",
    "argocd-repo-server",
    "argocd-controller",
    "argocd-applicationset",
)


def ensure() -> ArgoCD:
    """Return the running testbed's Argo CD; compile and start it if it does not run."""
    if not cluster.running():
        raise TestbedError("the testbed does not run: start it with make cluster")
    with cluster.locked("argocd"):
        _folder().mkdir(exist_ok=True)
        known = cluster.journal().processes()
        if not all(name in known and known[name].alive() for name in PROGRAMS):
            processes.stop(known[name] for name in PROGRAMS if name in known)
            _start()
    return ArgoCD()


def _start() -> None:
    program = parts.ensure("argocd") / "argocd"
    redis = tools.redis()
    started = time.monotonic()
    _install()
    running = {
        name: controlplane.launch(cluster.journal(), name, command, _environment())
        for name, command in _commands(str(program), str(redis)).items()
    }
    processes.wait_for("Argo CD", _ready, seconds=READY_SECONDS, processes=running)
    print(f"argocd: ready after {time.monotonic() - started:.1f} s", file=sys.stderr)


def _commands(program: str, redis: str) -> dict[str, list[str]]:
    shared = [f"--redis=127.0.0.1:{REDIS_PORT}", "--loglevel=info"]
    api = [f"--kubeconfig={layout.kubeconfig()}", f"--namespace={NAMESPACE}"]
    repo_server = f"127.0.0.1:{REPO_SERVER_PORT}"
    return {
        "argocd-redis": [
            redis,
            "--bind",
            "127.0.0.1",
            "--port",
            str(REDIS_PORT),
            "--save",
            "",
            "--appendonly",
            "no",
        ],
        "argocd-git": [
            *(
                "git",
                "daemon",
                "--reuseaddr",
                "--export-all",
                "--listen=127.0.0.1",
                f"--port={GIT_PORT}",
            ),
            f"--base-path={_folder() / 'git'}",
        ],
        "argocd-repo-server": [
            *(program, "repo-server", *shared, "--disable-tls"),
            *("--address=127.0.0.1", f"--port={REPO_SERVER_PORT}"),
            *("--metrics-address=127.0.0.1", f"--metrics-port={REPO_SERVER_METRICS_PORT}"),
        ],
        "argocd-controller": [
            *(program, "application-controller", *shared, *api),
            *(
                f"--repo-server={repo_server}",
                "--repo-server-plaintext",
                f"--metrics-port={CONTROLLER_METRICS_PORT}",
            ),
            *(f"--app-resync={RESYNC_SECONDS}", "--app-resync-jitter=0"),
        ],
        "argocd-applicationset": [
            *(
                program,
                "applicationset",
                *api,
                f"--argocd-repo-server={repo_server}",
                "--repo-server-plaintext",
            ),
            *(f"--{flag}=127.0.0.1:{port}" for flag, port in APPLICATIONSET_PORTS.items()),
        ],
    }


def _environment() -> dict[str, str]:
    """Return the folders of Argo CD's image, which are ours here, and its version of Helm."""
    folder = _folder()
    for name in ("git", "bin", "home", "tmp", "ssh", "tls", "gpg", "plugins"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    helm = folder / "bin" / "helm"
    helm.unlink(missing_ok=True)
    helm.symlink_to(tools.ensure() / HELM)
    return {
        "PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        # The ApplicationSet controller looks for its flag in one place, and here in another.
        "KUBECONFIG": str(layout.kubeconfig()),
        "TMPDIR": str(folder / "tmp"),
        "ARGOCD_GPG_ENABLED": "false",
        "ARGOCD_GPG_DATA_PATH": str(folder / "gpg"),
        "ARGOCD_SSH_DATA_PATH": str(folder / "ssh"),
        "ARGOCD_TLS_DATA_PATH": str(folder / "tls"),
        "ARGOCD_PLUGINSOCKFILEPATH": str(folder / "plugins"),
    }


def _install() -> None:
    """Create its CRDs, its namespace, and this cluster as a destination."""
    # The CRDs are in no package.
    for file in sorted((parts.sources("argocd", MODULE) / "manifests" / "crds").glob("*-crd.yaml")):
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(file))
    served = [f"/apis/argoproj.io/v1alpha1/{kind}" for kind in KINDS]
    processes.wait_for(
        "Argo CD's kinds",
        lambda: all(map(client.answers, served)),
        seconds=READY_SECONDS,
        processes={},
    )
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        _object("ConfigMap", "argocd-cm", data={"cluster.inClusterEnabled": "false"}),
        _object("ConfigMap", "argocd-rbac-cm"),
        _object(
            "Secret", "argocd-secret", stringData={"server.secretkey": "no client logs in here"}
        ),
        _object(
            "Secret",
            "testbed",
            labels={"argocd.argoproj.io/secret-type": "cluster"},
            stringData={
                "name": "testbed",
                "server": SERVER,
                "config": json.dumps({"tlsClientConfig": _identity()}),
            },
        ),
    ]
    kubectl(
        "apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    )


KINDS = ("applications", "applicationsets", "appprojects")


def _object(
    kind: str, name: str, *, labels: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    """Argo CD takes notice of those with this label."""
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "labels": {"app.kubernetes.io/part-of": "argocd"} | (labels or {}),
    }
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}


def _identity() -> dict[str, str]:
    """The administrator's certificate; Argo CD wants the files' contents."""
    files = {"caData": "ca.crt", "certData": "admin.crt", "keyData": "admin.key"}
    return {
        key: base64.b64encode((layout.pki_dir() / file).read_bytes()).decode()
        for key, file in files.items()
    }


def _ready() -> bool:
    # The ApplicationSet controller has a port for probes, and no probe.
    listening = (REDIS_PORT, GIT_PORT, REPO_SERVER_PORT, APPLICATIONSET_PORTS["probe-addr"])
    return all(map(_listens, listening)) and all(
        map(_healthy, (CONTROLLER_METRICS_PORT, REPO_SERVER_METRICS_PORT))
    )


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def _healthy(port: int) -> bool:
    return client.healthy(f"http://127.0.0.1:{port}/healthz")


def _folder() -> Path:
    return layout.state_dir() / "argocd"
