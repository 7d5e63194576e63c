"""`k8s-parsl ceph-key` with a real Vault and API server, and its ServiceAccount's permissions only.

The command runs as a separate process; only the folder of the ServiceAccount's token differs from
its pod's. The output of every run is searched for the keys and tokens, so each case below also
tests secrecy.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
import requests
import yaml

from k8s_parsl.ceph_key.settings import VaultSettings
from testbed import cluster, layout, pki
from testbed import vault as vaults

NAME = "csi-cephfs-pdgrun-secret"
# The client looks for its token where kubelet mounts it; here it is in the test's folder.
MAIN = """
import functools, os, pathlib
from k8s_parsl.__main__ import main
from k8s_parsl.kube import api
api.InPod = functools.partial(api.InPod, pathlib.Path(os.environ["ACCOUNT"]))
main()
"""


def cephx(seed):
    return base64.b64encode(
        struct.pack("<HIIH", 1, 1700000000, 5, 16) + bytes([seed]) * 16
    ).decode()


KEY, NEWER, USER = cephx(17), cephx(34), "k8s-dev-pdg-subvol-user"
TWICE = base64.b64encode(f"{KEY}\n".encode()).decode()
GOOD = {"userID": USER, "userKey": KEY}

ACCOUNTS = """
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: ceph-key, namespace: {namespace}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: stranger, namespace: {namespace}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: ceph-key, namespace: {namespace}}}
rules:
  - {{apiGroups: [""], resources: [secrets], resourceNames: [{name}], verbs: [get, patch, create]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: ceph-key, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: ceph-key}}
subjects: [{{kind: ServiceAccount, name: ceph-key, namespace: {namespace}}}]
"""


@dataclass
class Ended:
    code: int
    out: str

    @property
    def last(self):
        """The line that is the termination message too."""
        return self.out.strip().splitlines()[-1]


@dataclass
class Stage:
    """A namespace like the CSI driver's, with the command's ServiceAccount and its role in Vault."""

    vault: vaults.Vault
    namespace: str
    folder: Path
    secrets: set[str] = field(default_factory=set)

    def config(self, change=None):
        data = {
            "vault": {
                "url": self.vault.address,
                "caFile": self.vault.ca,
                "auth": {"role": self.namespace, "file": str(self.folder / "vault-token")},
                "kv": {"mount": "secret", "path": f"{self.namespace}/pdg"},
            },
            "secret": {"name": NAME, "namespace": self.namespace},
            "timeBudget": 20,
        }
        for path, value in (change or {}).items():
            *parents, key = path.split(".")
            place = data
            for parent in parents:
                place = place[parent]
            place[key] = value
        file = self.folder / "ceph-key.yaml"
        file.write_text(yaml.safe_dump(data))
        return file

    def token(self, account="ceph-key", audience=""):
        token = _token(self.namespace, account, audience)
        self.secrets.add(token)
        return token

    def start(self, change=None, *, account="ceph-key", audience="vault"):
        """The command, started."""
        (self.folder / "vault-token").write_text(self.token(account, audience))
        (self.folder / "token").write_text(self.token(account))
        shutil.copy(layout.pki_dir() / "ca.crt", self.folder)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(layout.API_PORT),
            "ACCOUNT": str(self.folder),
        }
        command = [sys.executable, "-c", MAIN, "ceph-key", "--config", str(self.config(change))]
        return subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=1,
        )

    def end(self, process, before=""):
        out = before + process.communicate(timeout=60)[0]
        for secret in self.secrets:
            assert secret not in out, "a secret is in the output"
        assert "Traceback" not in out, out
        return Ended(process.returncode, out)

    def run(self, change=None, **how):
        """The command, from start to end; shows none of the secrets."""
        return self.end(self.start(change, **how))

    def put(self, data, path="pdg"):
        return self.vault.put(f"{self.namespace}/{path}", data)

    def read(self):
        """The Secret as it is now."""
        return json.loads(
            vaults.kubectl("get", "secret", NAME, f"--namespace={self.namespace}", "--output=json")
        )

    def values(self):
        return {key: base64.b64decode(value).decode() for key, value in self.read()["data"].items()}

    def make(self, **metadata):
        """Make a Secret of another client's."""
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": NAME, **metadata},
            "stringData": {"userKey": "old", "adminID": "admin"},
        }
        vaults.kubectl(
            "create", "-f", "-", f"--namespace={self.namespace}", text=json.dumps(secret)
        )


@cache
def _token(namespace, account, audience):
    more = [f"--audience={audience}"] if audience else []
    return vaults.kubectl("create", "token", account, f"--namespace={namespace}", *more)


@pytest.fixture(scope="module")
def theatre(tmp_path_factory):
    if not cluster.running():
        missing = pytest.fail if os.environ.get("REQUIRE_CLUSTER") else pytest.skip
        missing("needs the testbed: make cluster")
    vault = vaults.ensure()
    name = f"vault-{uuid.uuid4().hex[:8]}"
    vaults.kubectl("apply", "-f", "-", text=ACCOUNTS.format(namespace=name, name=NAME))
    # All under one prefix, so that nothing here meets what another test has in the same Vault.
    vault.policy(name, f"secret/data/{name}/*", f"kv1/{name}/*")
    vault.role(name, name, "ceph-key", name)
    stage = Stage(vault, name, tmp_path_factory.mktemp("vault"))
    stage.secrets |= {KEY, NEWER, TWICE, vault.root_token}
    yield stage
    vaults.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def stage(theatre):
    """With a good key in Vault, and no Secret yet."""
    theatre.put(GOOD)
    yield theatre
    if theatre.vault.client().sys.is_sealed():
        theatre.vault.unseal()
    vaults.kubectl(
        "delete", "secret", NAME, f"--namespace={theatre.namespace}", "--ignore-not-found"
    )


def test_the_key_goes_from_vault_to_the_secret(stage):
    """Both fields, encoded once, and where they are from; nothing of the key outside `data`."""
    version = stage.put(GOOD)
    ended = stage.run(
        {"secret.owner": "pdgrun/pdgrun", "secret.labels": {"app.kubernetes.io/instance": "pdgrun"}}
    )
    assert (ended.code, stage.values()) == (0, GOOD), ended.out
    assert f"Secret {stage.namespace}/{NAME} created: user {USER}, key sha256" in ended.last
    assert f"of secret/{stage.namespace}/pdg version {version}" in ended.last
    metadata = stage.read()["metadata"]
    assert metadata["annotations"]["k8s-parsl/vault-version"] == str(version)
    assert metadata["labels"]["app.kubernetes.io/managed-by"] == "k8s-parsl"
    assert KEY not in json.dumps(metadata)


def test_a_second_run_changes_nothing_and_a_new_key_does(stage):
    """The resourceVersion stays, so that kubelet, Argo CD and watchers see no change."""
    assert stage.run().code == 0
    before = stage.read()["metadata"]["resourceVersion"]
    ended = stage.run()
    assert (ended.code, stage.read()["metadata"]["resourceVersion"]) == (0, before)
    assert "unchanged" in ended.last
    stage.put({"userID": f"client.{USER}", "userKey": f"{NEWER}\n"})
    ended = stage.run()
    assert (ended.code, stage.values()) == (0, {"userID": USER, "userKey": NEWER}), ended.out
    assert "updated" in ended.last
    assert "the prefix client. was removed" in ended.out
    assert "userKey: white space at its ends was removed" in ended.out


def test_a_secret_of_another_client_is_left_alone_until_adopted(stage):
    """Adopted, it keeps the fields that are not ours."""
    stage.make(labels={"app.kubernetes.io/managed-by": "Helm"})
    before = stage.read()
    ended = stage.run()
    assert ended.code == 78
    assert (
        f"Secret {stage.namespace}/{NAME} is managed by Helm: give secret.name another name"
        in ended.last
    )
    assert stage.read() == before
    ended = stage.run({"adopt": True})
    assert (ended.code, stage.values()) == (0, {**GOOD, "adminID": "admin"}), ended.out
    assert "adopted" in ended.last


def test_two_releases_do_not_fight_over_one_secret(stage):
    """The owner is recorded; another one is refused."""
    assert stage.run({"secret.owner": "pdgrun/pdgrun"}).code == 0
    ended = stage.run({"secret.owner": "other/pdgrun"})
    assert (ended.code, f"{NAME} belongs to pdgrun/pdgrun" in ended.last) == (78, True), ended.out


@pytest.mark.parametrize("version", ["auto", 1])
def test_kv_version_1(stage, version):
    """It knows no versions of a secret; so nothing is said of one."""
    client = stage.vault.client()
    client.secrets.kv.v1.create_or_update_secret(f"{stage.namespace}/pdg", GOOD, mount_point="kv1")
    ended = stage.run({"vault.kv.mount": "kv1", "vault.kv.version": version})
    assert (ended.code, stage.values()) == (0, GOOD), ended.out
    assert "k8s-parsl/vault-version" not in stage.read()["metadata"]["annotations"]


def test_fields_of_other_names(stage):
    """DataONE's, or any other."""
    stage.put({"user": USER, "key": KEY, "note": "of 2026"}, "other")
    kv = {
        "vault.kv.path": f"{stage.namespace}/other",
        "vault.kv.userIDKey": "user",
        "vault.kv.userKeyKey": "key",
    }
    assert (stage.run(kv).code, stage.values()) == (0, GOOD)


def test_jwt(stage):
    """The pod's token, checked by its signature."""
    subject = f"system:serviceaccount:{stage.namespace}:ceph-key"
    jwt_role(stage, "jwt-good", bound_subject=subject)
    ended = stage.run({"vault.auth.method": "jwt", "vault.auth.role": "jwt-good"})
    assert (ended.code, stage.values()) == (0, GOOD), ended.out


def jwt_role(stage, name, **more):
    role = {
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": ["vault"],
        "token_ttl": "5m",
        **more,
    }
    role["token_policies"] = [stage.namespace]
    stage.vault.client().adapter.post(f"/v1/auth/jwt/role/{name}", json=role)


def approle(stage):
    """Role ID, and a file with a secret ID."""
    methods = stage.vault.client().auth.approle
    methods.create_or_update_approle(
        stage.namespace, token_policies=[stage.namespace], token_ttl="5m"
    )
    secret = methods.generate_secret_id(stage.namespace)["data"]["secret_id"]
    stage.secrets.add(secret)
    file = stage.folder / "secret-id"
    file.write_text(f"{secret}\n")
    return methods.read_role_id(stage.namespace)["data"]["role_id"], file


def test_approle(stage):
    """Role ID from the settings, secret ID from a file."""
    role_id, file = approle(stage)
    ended = stage.run({"vault.auth": {"method": "approle", "roleID": role_id, "file": str(file)}})
    assert (ended.code, stage.values()) == (0, GOOD), ended.out


def test_a_token_file(stage):
    """A token that was given to us is not ours to revoke."""
    token = stage.vault.client().auth.token.create(policies=[stage.namespace], ttl="5m")["auth"][
        "client_token"
    ]
    stage.secrets.add(token)
    file = stage.folder / "own-token"
    file.write_text(token)
    ended = stage.run({"vault.auth": {"method": "token", "file": str(file)}})
    assert (ended.code, stage.values()) == (0, GOOD), ended.out
    assert stage.vault.client(token).is_authenticated()


@pytest.mark.parametrize("change", [{}, {"vault.kv.path": "nowhere"}], ids=["good", "bad"])
def test_the_token_is_revoked(stage, change):
    """Vault knows no token afterwards that it did not know before; and it did make one."""
    made = stage.vault.client().auth.kubernetes
    before = stage.vault.accessors()
    stage.run(change)
    assert stage.vault.accessors() <= before
    login = made.login(stage.namespace, stage.token(audience="vault"), use_token=False)
    assert login["auth"]["accessor"] in stage.vault.accessors(), (
        "an accessor that is not revoked does stay"
    )
    stage.vault.client(login["auth"]["client_token"]).auth.token.revoke_self()


def test_the_account_may_write_that_one_secret_and_nothing_else(stage):
    """The Role's minimum: server-side apply of the one name creates the Secret, too."""
    session = requests.Session()
    session.trust_env, session.verify = False, str(layout.pki_dir() / "ca.crt")
    session.headers["Authorization"] = f"Bearer {stage.token()}"
    url = f"https://127.0.0.1:{layout.API_PORT}/api/v1/namespaces/{stage.namespace}/secrets"
    apply = {
        "params": {"fieldManager": "k8s-parsl"},
        "headers": {"Content-Type": "application/apply-patch+yaml"},
    }

    def secret(name):
        return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}})

    assert session.patch(f"{url}/{NAME}", data=secret(NAME), **apply).status_code == 201
    assert session.patch(f"{url}/another", data=secret("another"), **apply).status_code == 403
    assert session.post(url, json=json.loads(secret(NAME))).status_code == 403
    assert session.get(f"{url}/another").status_code == 403
    assert session.get(url).status_code == 403
    assert session.delete(f"{url}/{NAME}").status_code == 403
    assert session.put(f"{url}/{NAME}", json=json.loads(secret(NAME))).status_code == 403


def test_a_sealed_vault_is_waited_for_within_the_budget(stage):
    """The log says what it waits for, and it goes on when Vault is unsealed."""
    stage.vault.seal()
    process = stage.start()
    said = process.stdout.readline()
    assert f"Vault at {stage.vault.address} is sealed: unseal it" in said
    stage.vault.unseal()
    ended = stage.end(process, said)
    assert (ended.code, stage.values()) == (0, GOOD), ended.out


def test_a_sealed_vault_that_stays_so(stage):
    """69: the Job tries again."""
    stage.vault.seal()
    ended = stage.run({"timeBudget": 2})
    assert (
        ended.code,
        "is sealed: unseal it (vault operator unseal) (tried for 2 s)" in ended.last,
    ) == (
        69,
        True,
    )


def test_stopped_while_it_waits(stage):
    """143, at once: kubelet's grace period is not slept through."""
    stage.vault.seal()
    process = stage.start()
    said = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    ended = stage.end(process, said)
    assert (ended.code, "SIGTERM: stopped from outside" in ended.last) == (143, True), ended.out


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def vault_down(stage):
    return {"vault.url": f"https://127.0.0.1:{closed_port()}", "timeBudget": 1.5}


def other_authority(stage):
    pki.Authority(stage.folder / "other")
    return {"vault.caFile": str(stage.folder / "other" / "ca.crt")}


def no_certificate(stage):
    file = stage.folder / "ca.txt"
    file.write_text("no certificate")
    return {"vault.caFile": str(file)}


def role_of_another_namespace(stage):
    stage.vault.role(f"{stage.namespace}-1", "elsewhere", "ceph-key", stage.namespace)
    return {"vault.auth.role": f"{stage.namespace}-1"}


def role_of_another_account(stage):
    stage.vault.role(f"{stage.namespace}-2", stage.namespace, "another", stage.namespace)
    return {"vault.auth.role": f"{stage.namespace}-2"}


def role_of_another_audience(stage):
    stage.vault.role(
        f"{stage.namespace}-3",
        stage.namespace,
        "ceph-key",
        stage.namespace,
        audience="https://vault",
    )
    return {"vault.auth.role": f"{stage.namespace}-3"}


def role_without_policy(stage):
    stage.vault.role(f"{stage.namespace}-4", stage.namespace, "ceph-key")
    return {"vault.auth.role": f"{stage.namespace}-4"}


def method_without_configuration(stage):
    mount = f"kubernetes-{stage.namespace}"
    root = stage.vault.client()
    if f"{mount}/" not in root.sys.list_auth_methods()["data"]:
        root.sys.enable_auth_method("kubernetes", path=mount)
    root.auth.kubernetes.create_role(
        stage.namespace, ["ceph-key"], [stage.namespace], mount_point=mount
    )
    return {"vault.auth.mount": mount}


def version_deleted(stage):
    stage.put(GOOD, "deleted")
    stage.vault.client().secrets.kv.v2.delete_latest_version_of_secret(f"{stage.namespace}/deleted")
    return {"vault.kv.path": f"{stage.namespace}/deleted"}


def version_destroyed(stage):
    number = stage.put(GOOD, "destroyed")
    stage.vault.client().secrets.kv.v2.destroy_secret_versions(
        f"{stage.namespace}/destroyed", [number]
    )
    return {"vault.kv.path": f"{stage.namespace}/destroyed"}


def version_1_set_to_2(stage):
    client = stage.vault.client()
    client.secrets.kv.v1.create_or_update_secret(f"{stage.namespace}/pdg", GOOD, mount_point="kv1")
    return {"vault.kv.mount": "kv1", "vault.kv.version": 2}


def data_in_path_set_to_1(stage):
    return {"vault.kv.path": f"data/{stage.namespace}/pdg", "vault.kv.version": 1}


def secret_id_of_another(stage):
    role_id, _ = approle(stage)
    file = stage.folder / "wrong-id"
    file.write_text("11111111-2222-3333-4444-555555555555")
    return {"vault.auth": {"method": "approle", "roleID": role_id, "file": str(file)}}


def token_of_another_vault(stage):
    file = stage.folder / "wrong-token"
    file.write_text("hvs.CAESIJ0000000000000000")
    return {"vault.auth": {"method": "token", "file": str(file)}}


def jwt_of_another(stage):
    jwt_role(stage, "jwt-other", bound_subject="system:serviceaccount:elsewhere:ceph-key")
    return {"vault.auth.method": "jwt", "vault.auth.role": "jwt-other"}


def put(data):
    def prepare(stage):
        stage.put(data, "bad")
        return {"vault.kv.path": f"{stage.namespace}/bad"}

    return prepare


def empty_token(stage):
    file = stage.folder / "empty"
    file.write_text("\n")
    return {"vault.auth.file": str(file)}


# What is wrong: how it is brought about (a change of the settings, after doing something), exit
# code, message. `{ns}` stands for the namespace, which is also the name of the role.
BAD = {
    "Vault down": (
        vault_down,
        69,
        "does not answer: Connection refused; check vault.url, DNS and NetworkPolicies (tried",
    ),
    "wrong CA": (
        other_authority,
        78,
        "vault.caBundle (or caFile): no CA in it has signed Vault's certificate",
    ),
    "no CA": (
        {"vault.caFile": ""},
        78,
        "vault.caBundle (or caFile): no CA in it has signed Vault's certificate",
    ),
    "CA file missing": (
        {"vault.caFile": "/nowhere/ca.crt"},
        78,
        "vault.caFile: /nowhere/ca.crt: No such file",
    ),
    "CA file is something else": (no_certificate, 78, "holds no certificate in PEM form"),
    "role missing": (
        {"vault.auth.role": "pdg"},
        78,
        "vault.auth.role: auth/kubernetes has no role 'pdg': create it",
    ),
    "role of another namespace": (
        role_of_another_namespace,
        77,
        "is not bound to system:serviceaccount:{ns}:ceph-key: add its namespace to bound_service_account_namespaces",
    ),
    "role of another account": (
        role_of_another_account,
        77,
        "add its name to bound_service_account_names",
    ),
    "role of another audience": (
        role_of_another_audience,
        77,
        "vault.auth.audience: the token is for audience 'vault', but role '{ns}-3' of auth/kubernetes requires another",
    ),
    "wrong auth mount": (
        {"vault.auth.mount": "k8s"},
        77,
        "at auth/k8s without a reason: check vault.auth.mount",
    ),
    "method not configured": (
        method_without_configuration,
        78,
        "is enabled but not configured: vault write auth/kube",
    ),
    "token file missing": (
        {"vault.auth.file": "/nowhere/token"},
        78,
        "vault.auth.file: /nowhere/token: No such file",
    ),
    "token file empty": (empty_token, 78, "is empty"),
    "jwt role missing": (
        {"vault.auth.method": "jwt", "vault.auth.role": "none"},
        78,
        "vault.auth.role: auth/jwt has no role 'none'",
    ),
    "jwt of another": (jwt_of_another, 77, "its bound_subject or bound_claims differ"),
    "secret ID of another": (secret_id_of_another, 77, "are not valid at auth/approle"),
    "token of another Vault": (
        token_of_another_vault,
        77,
        "wrong-token is not valid: expired, revoked, or of another",
    ),
    "no such KV mount": (
        {"vault.kv.mount": "kv"},
        77,
        "vault.kv.mount: role '{ns}' of auth/kubernetes has no access to",
    ),
    "KV mount with data/": (
        {"vault.kv.mount": "secret/data"},
        78,
        "vault.kv.mount: the mount is 'secret', not",
    ),
    "mount of another engine": (
        {"vault.kv.mount": "cubbyhole"},
        78,
        "is of type 'cubbyhole', not a KV engine",
    ),
    "wrong path": (
        {"vault.kv.path": "{ns}/nope"},
        78,
        "vault.kv.path: there is nothing at secret/{ns}/nope: vault kv get -mount=secret {ns}/nope",
    ),
    "path not in the policy": (
        {"vault.kv.path": "pdg"},
        77,
        'its policies need: path "secret/data/pdg" { capabilities = ["read"] }',
    ),
    "no policy": (role_without_policy, 77, "has no access to 'secret'"),
    "data/ in the path": (
        {"vault.kv.path": "data/{ns}/pdg"},
        78,
        "vault.kv.path: write '{ns}/pdg', without the data/ that",
    ),
    "mount in the path": (
        {"vault.kv.path": "secret/{ns}/pdg"},
        78,
        "vault.kv.path: write '{ns}/pdg'; the mount is in",
    ),
    "version 2 set to 1": (
        {"vault.kv.version": 1},
        78,
        "vault.kv.version: the engine at 'secret' is of KV version 2, not 1: write 2, or auto",
    ),
    "version 1 set to 2": (
        version_1_set_to_2,
        78,
        "the engine at 'kv1' is of KV version 1, not 2: write 1, or auto",
    ),
    "version 2 set to 1, data/ in the path": (
        data_in_path_set_to_1,
        78,
        "is of KV version 2, not 1",
    ),
    "version deleted": (version_deleted, 78, "secret/{ns}/deleted was deleted at 20"),
    "version destroyed": (
        version_destroyed,
        78,
        "of secret/{ns}/destroyed was destroyed: write the key again",
    ),
    "missing keys": (
        put({"userId": USER, "key": KEY}),
        65,
        "secret/{ns}/bad has no field 'userID' (it has: key, userId): write it, or set vault.kv.userIDKey",
    ),
    "no key": (put({"userID": USER}), 65, "has no field 'userKey' (it has: userID)"),
    "key is a number": (
        put({"userID": USER, "userKey": 8972}),
        65,
        "secret/{ns}/bad: userKey is of type int: write a str",
    ),
    "base64 twice": (
        put({"userID": USER, "userKey": TWICE}),
        65,
        "userKey is base64 twice, with a newline inside",
    ),
    "wrong way round": (put({"userID": KEY, "userKey": USER}), 65, "userID holds a key"),
    "Secret of another name": (
        {"secret.name": "another"},
        77,
        "this ServiceAccount may not write it; it needs a Role in namespace {ns} for secrets, resourceNames [another], verbs",
    ),
    "Secret in another namespace": (
        {"secret.namespace": "kube-system"},
        77,
        "Secret kube-system/csi-cephfs-pdgrun-secret",
    ),
}


@pytest.mark.parametrize(("wrong", "code", "message"), BAD.values(), ids=BAD)
def test_bad_input(stage, wrong, code, message):
    """One line says what to change, the exit code whether to retry; no Secret is created."""

    def named(text):
        return text.replace("{ns}", stage.namespace) if isinstance(text, str) else text

    change = wrong(stage) if callable(wrong) else wrong
    before = stage.vault.accessors()
    ended = stage.run({key: named(value) for key, value in change.items()})
    assert named(message) in ended.last, ended.out
    assert ended.code == code, ended.out
    assert ended.last.startswith("k8s-parsl: ")
    assert stage.vault.accessors() <= before
    with pytest.raises(vaults.TestbedError, match="not found"):
        stage.read()


def test_wrong_audience_of_the_token(stage):
    """Issue 4's case: the projected volume's audience is not the role's."""
    ended = stage.run(audience="https://kubernetes.default.svc")
    assert ended.code == 77
    assert "the token is for audience 'https://kubernetes.default.svc'" in ended.last


def test_no_right_to_the_secret(stage):
    """The ServiceAccount may read Vault, but no RoleBinding gives it the Role."""
    stage.vault.role(f"{stage.namespace}-5", stage.namespace, "stranger", stage.namespace)
    ended = stage.run({"vault.auth.role": f"{stage.namespace}-5"}, account="stranger")
    assert ended.code == 77
    assert f"Secret {stage.namespace}/{NAME}: this ServiceAccount may not write it" in ended.last


def test_the_default_of_the_audience_is_the_testbeds():
    """One fact in two places."""
    assert (
        VaultSettings.model_fields["auth"].annotation.model_fields["audience"].default
        == vaults.AUDIENCE
    )
