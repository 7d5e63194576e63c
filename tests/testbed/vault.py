"""A real Vault beside the cluster, started by the tests that use it.

It listens on the first node's address, which this machine and every pod reach. The journal knows
it, so that `down` ends it. Initialised, unsealed and set up through its own API, as an
administrator does it: kv version 2 at `secret` and version 1 at `kv1`, the auth methods kubernetes,
jwt and approle under their own names.

A test that wants Vault down names a port where nothing listens: where a process of the journal's
has ended, the whole testbed counts as dead.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import hvac
import requests

from testbed import cluster, controlplane, layout, parts, pki, processes, tools
from testbed.layout import TestbedError

PORT = 18200
READY_SECONDS = 30.0
AUDIENCE = "vault"
"""The audience of the pods' tokens, unless a test wants another."""

REVIEWER = """
apiVersion: v1
kind: Namespace
metadata: {name: vault-testbed}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reviewer, namespace: vault-testbed}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: vault-testbed-reviewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:auth-delegator}
subjects: [{kind: ServiceAccount, name: reviewer, namespace: vault-testbed}]
"""


@dataclass(frozen=True)
class Vault:
    """The running server, and what its administrator knows."""

    address: str
    ca: str
    """Path of the certificate of the authority that its certificate is of."""
    root_token: str = field(repr=False)
    unseal_key: str = field(repr=False)

    @property
    def ca_file(self) -> Path:
        return Path(self.ca)

    def client(self, token: str | None = None) -> hvac.Client:
        """Return a client with this token; by default the root token."""
        session = requests.Session()
        session.verify = self.ca
        session.trust_env = False  # no proxy of the environment's: this is our own machine
        return hvac.Client(
            self.address, token=self.root_token if token is None else token, session=session
        )

    def seal(self) -> None:
        self.client().sys.seal()

    def unseal(self) -> None:
        self.client().sys.submit_unseal_key(self.unseal_key)

    def put(self, path: str, data: dict[str, Any], mount: str = "secret") -> int:
        """Write a secret of kv version 2; return its new version."""
        answer = self.client().secrets.kv.v2.create_or_update_secret(path, data, mount_point=mount)
        version: int = answer["data"]["version"]
        return version

    def policy(self, name: str, *paths: str, capabilities: str = '"read"') -> None:
        """Write a policy for these API paths; those of kv version 2 contain `data/`."""
        rules = "\n".join(f'path "{path}" {{ capabilities = [{capabilities}] }}' for path in paths)
        self.client().sys.create_or_update_policy(name, rules)

    def role(
        self,
        name: str,
        namespace: str,
        account: str,
        *policies: str,
        audience: str = AUDIENCE,
        mount: str = "kubernetes",
        **more: Any,
    ) -> None:
        """Write a role of the kubernetes method: who may log in, and with which policies."""
        self.client().auth.kubernetes.create_role(
            name,
            bound_service_account_names=[account],
            bound_service_account_namespaces=[namespace],
            ttl="5m",
            policies=list(policies),
            audience=audience,
            mount_point=mount,
            **more,
        )

    def accessors(self) -> set[str]:
        """Return the accessors of all valid tokens."""
        return set(self.client().auth.token.list_accessors()["data"]["keys"])

    def configure_kubernetes_auth(self, mount: str = "kubernetes") -> None:
        """Let Vault ask this cluster's API server (TokenReview) whose a token is."""
        kubectl("apply", "-f", "-", text=REVIEWER)
        reviewer = kubectl(
            "create", "token", "reviewer", "--namespace=vault-testbed", "--duration=24h"
        )
        self.client().auth.kubernetes.configure(
            kubernetes_host=f"https://{layout.API_SERVER_IP}:{layout.API_PORT}",
            kubernetes_ca_cert=(layout.pki_dir() / "ca.crt").read_text(),
            token_reviewer_jwt=reviewer,
            disable_local_ca_jwt=True,  # this Vault is in no pod
            mount_point=mount,
        )


def ensure() -> Vault:
    """Return the running testbed's Vault, unsealed; compile and start it if there is none."""
    if not cluster.running():
        raise TestbedError("the testbed does not run: start it with make cluster")
    with cluster.locked("vault"):
        _folder().mkdir(exist_ok=True)
        journal = cluster.journal()
        identity = journal.processes().get("vault")
        if identity is None or not identity.alive() or not _state().exists():
            return _start()
        vault = Vault(**json.loads(_state().read_text()))
        if vault.client().sys.is_sealed():
            vault.unseal()
        return vault


def kubectl(*arguments: str, text: str | None = None) -> str:
    """Run kubectl as the administrator; return its output."""
    done = subprocess.run(
        [str(tools.ensure() / "kubectl"), f"--kubeconfig={layout.kubeconfig()}", *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TestbedError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _start() -> Vault:
    program = parts.ensure("vault") / "vault"
    folder = _folder()
    started = time.monotonic()
    pki.Authority(folder).issue(
        "vault", "vault", names=("localhost", "127.0.0.1", *(node.ip for node in layout.NODES))
    )
    listen = f"{layout.API_SERVER_IP}:{PORT}"
    identity = controlplane.launch(
        cluster.journal(),
        "vault",
        [str(program), listen, str(folder / "vault.crt"), str(folder / "vault.key")],
    )
    newborn = Vault(f"https://{listen}", str(folder / "ca.crt"), root_token="", unseal_key="")
    processes.wait_for(
        "Vault", lambda: _answers(newborn), seconds=READY_SECONDS, processes={"vault": identity}
    )
    keys = newborn.client().sys.initialize(secret_shares=1, secret_threshold=1)
    vault = Vault(
        newborn.address, newborn.ca, root_token=keys["root_token"], unseal_key=keys["keys"][0]
    )
    vault.unseal()
    _set_up(vault)
    _write_private(_state(), json.dumps(asdict(vault)))
    print(f"vault: ready after {time.monotonic() - started:.1f} s", file=sys.stderr)
    return vault


def _set_up(vault: Vault) -> None:
    root = vault.client()
    root.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    root.sys.enable_secrets_engine("kv", path="kv1", options={"version": "1"})
    # A new kv version 2 is upgraded in the background, and answers 400 until that is done.
    _await_writable(vault)
    for method in ("kubernetes", "jwt", "approle"):
        root.sys.enable_auth_method(method)
    vault.configure_kubernetes_auth()
    # The jwt method needs no TokenReview: it checks the signature with the cluster's public key.
    root.auth.jwt.configure(
        jwt_validation_pubkeys=[(layout.pki_dir() / "service-accounts.pub").read_text()]
    )


def _await_writable(vault: Vault) -> None:
    def writable() -> bool:
        try:
            vault.put("testbed", {"ready": "yes"})
        except hvac.exceptions.InvalidRequest:
            return False
        return True

    identity = cluster.journal().processes()["vault"]
    processes.wait_for(
        "Vault's kv engine", writable, seconds=READY_SECONDS, processes={"vault": identity}
    )


def _answers(vault: Vault) -> bool:
    try:
        vault.client().sys.is_initialized()
    except requests.RequestException:
        return False
    return True


def _folder() -> Path:
    return layout.state_dir() / "vault"


def _state() -> Path:
    return _folder() / "state.json"


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
