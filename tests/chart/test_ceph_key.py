"""Who makes the node-stage Secret of a CephFS volume, and what of a key is seen on the way.

What the Job does then is tested with a real Vault (tests/cluster/test_vault.py).
"""

from __future__ import annotations

import base64
import json
import re
import struct
from typing import Any

import pytest
import yaml
from pydantic import Secret, SecretStr
from quick import quick

from chart.helm import CHART, MINIMAL, REPOSITORY, VALUES, Object, container
from k8s_parsl.ceph_key.key import CephKey, check_key
from k8s_parsl.ceph_key.settings import Auth, CephKeySettings, KeyKv
from k8s_parsl_runtime.shared.errors import ExitCode
from values_schema.storage_values import KeyPlace, VaultSource

EVERY_KEY = VALUES / "every-key.yaml"
KEY = base64.b64encode(struct.pack("<HIIH", 1, 1700000000, 5, 16) + bytes(range(16))).decode()
AES256_KEY = base64.b64encode(
    struct.pack("<HIIH", 2, 1700000000, 5, 32) + bytes(range(32))
).decode()

USER = {"values": {"userID": "pdg", "userKey": KEY}}
VAULT = {
    "url": "https://vault:8200",
    "auth": {"role": "r"},
    "kv": {"mount": "secret", "path": "pdg/ceph"},
}
APPROLE = {"method": "approle", "roleID": "id", "secretRef": {"name": "s", "key": "k"}}
EXTERNAL = {"externalSecret": {"storeRef": {"name": "vault"}, "path": "pdg/ceph"}}


def values(**secret: Any) -> dict[str, Any]:
    """The least that has one CephFS volume, with this under `secret`."""
    cephfs = {"clusterID": "c", "rootPath": "/volumes/a", "secret": secret}
    return MINIMAL | {"storage": {"data": {"mountPath": "/data", "cephfs": cephfs}}}


def vault(**over: Any) -> dict[str, Any]:
    return values(vault=VAULT | over)


def rendered(helm, over: dict[str, Any]):
    return helm.template(over=over, namespace="science")


# Sources -------------------------------------------------------------------------------------------------------------

OURS = "science-pdgrun-data-ceph-5742fd11"
# (under `secret`, name of the Secret, kinds that are made for it)
SOURCES: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "existing": ({"name": "theirs"}, "theirs", []),
    "values": (USER, OURS, ["Secret"]),
    "values, named": (USER | {"name": "mine"}, "mine", ["Secret"]),
    "external-secrets": (EXTERNAL, OURS, ["ExternalSecret"]),
    "vault": (
        {"vault": VAULT},
        OURS,
        ["ConfigMap", "Job", "NetworkPolicy", "Role", "RoleBinding", "ServiceAccount"],
    ),
    "vault, on a schedule": (
        {"vault": VAULT | {"schedule": "0 3 * * *"}, "name": "mine"},
        "mine",
        ["ConfigMap", "CronJob", "Job", "NetworkPolicy", "Role", "RoleBinding", "ServiceAccount"],
    ),
    "another source swapped for null": (
        {"values": None, "vault": None} | EXTERNAL,
        OURS,
        ["ExternalSecret"],
    ),
}


@pytest.mark.parametrize(("secret", "name", "kinds"), SOURCES.values(), ids=SOURCES.keys())
@pytest.mark.parametrize("namespace", ["ceph-csi-cephfs", "rook-ceph"])
def test_a_source_makes_what_it_needs_beside_the_secret(helm, secret, name, kinds, namespace):
    """Nothing is in the release's namespace, where every user who may create pods could use it."""
    release = rendered(helm, values(**secret, namespace=namespace))
    made = release.of("ceph-key")
    assert sorted(item["kind"] for item in made) == kinds
    assert {item["metadata"]["namespace"] for item in made} <= {namespace}
    volume = release.one("PersistentVolume")
    assert volume["spec"]["csi"]["nodeStageSecretRef"] == {"name": name, "namespace": namespace}
    for item in release.all("Secret"):
        assert item["metadata"]["name"] == name
        assert item["stringData"] == USER["values"]
    for item in release.all("ExternalSecret"):
        assert item["spec"]["target"] == {"name": name, "creationPolicy": "Owner"}
    for item in release.of("ceph-key", "Role"):
        assert item["rules"][0]["resourceNames"] == [name]


def test_all_of_it_is_the_administrators(helm):
    for secret, _, _ in SOURCES.values():
        assert rendered(helm, values(**secret) | {"admin": {"create": False}}).of("ceph-key") == []
        half = rendered(helm, values(**secret) | {"namespaced": {"create": False}})
        assert half.of("ceph-key") == rendered(helm, values(**secret)).of("ceph-key")


def test_the_halves_call_the_secret_the_same(helm):
    """Under two release names, too: Secret and volume are both named after the claim."""
    over = values(**USER)
    over["storage"]["data"]["claimName"] = "pdg"
    volumes = {
        helm.template(over=over | half, release=release).one(kind)["spec"].get("volumeName", "")
        or helm.template(over=over | half, release=release).one(kind)["metadata"]["name"]
        for release, kind, half in (
            ("admin", "PersistentVolume", {"namespaced": {"create": False}}),
            ("user", "PersistentVolumeClaim", {"admin": {"create": False}}),
        )
    }
    assert len(volumes) == 1


def test_a_secret_has_a_name_however_long_the_claims_is(helm):
    """253 characters, as the API allows; cut where a name may end."""
    over = values(**USER)
    for claim, kept in (("c" * 253, 231), ("c" * 230 + "." * 22 + "c", 230)):
        over["storage"]["data"]["claimName"] = claim
        (secret,) = rendered(helm, over).all("Secret")
        assert re.fullmatch(f"science-c{{{kept}}}-ceph-[0-9a-f]{{8}}", secret["metadata"]["name"])


# (namespace, release, storage key) of two installs. Joined by hyphens, dots or not at all, most
# pairs are one text.
MEETINGS = {
    "one name in two namespaces": (("a", "c", "e"), ("b", "c", "e")),
    "the release begins earlier": (("a-b", "c", "e"), ("a", "b-c", "e")),
    "the release begins much earlier": (("a-b-c", "d", "e"), ("a", "b-c-d", "e")),
    "the key begins earlier": (("a", "c-e", "f"), ("b", "c", "e-f")),
    "all of them begin earlier": (("a-b", "c", "d-e"), ("a", "b", "c-d-e")),
    "one release's name has our words": (("a", "c", "x-ceph-key-y"), ("a", "c-ceph-key-x", "y")),
    "a dot": (("a", "b.c", "e"), ("a-b", "c", "e")),
    "cut off where they differ": (
        ("n" * 62 + "a", "r" * 53, "k" * 30),
        ("n" * 62 + "b", "r" * 53, "k" * 30),
    ),
    "cut off before they differ": (
        ("n" * 63, "r" * 52 + "a", "e"),
        ("n" * 63, "r" * 52 + "b", "e"),
    ),
    "one letter moves": (("n" * 63, "r" * 9, "e"), ("n" * 62, "n-" + "r" * 9, "e")),
}


@pytest.mark.parametrize(("one", "other"), quick([*MEETINGS.values()], 4), ids=MEETINGS.keys())
@pytest.mark.parametrize("source", ["values", "externalSecret", "vault"])
def test_two_releases_do_not_meet_outside_of_their_namespaces(helm, one, other, source):
    """A second `kubectl apply` would replace the first one's policy, or its volume's key."""
    secret = {
        "values": USER,
        "externalSecret": EXTERNAL,
        "vault": {"vault": VAULT | {"schedule": "0 3 * * *"}},
    }
    one, other = (outside(helm, *names, secret[source]) for names in (one, other))
    assert one
    assert one.keys().isdisjoint(other)
    handles = [
        {
            item["spec"]["csi"]["volumeHandle"]
            for item in of.values()
            if "csi" in item.get("spec", {})
        }
        for of in (one, other)
    ]
    assert handles[0].isdisjoint(handles[1])


def outside(
    helm, namespace: str, release: str, key: str, secret: dict[str, Any]
) -> dict[tuple[str, ...], Object]:
    """By kind, namespace and name: what this release has outside of its namespace."""
    over = values(**secret) | {"admissionPolicy": {"create": True}}
    over["storage"] = {key: over["storage"]["data"]}
    objects = helm.template(over=over, release=release, namespace=namespace).objects
    places = [
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
        for item in objects
    ]
    return {
        place: item
        for place, item in zip(places, objects, strict=True)
        if place[1] or place[0] in CLUSTER_WIDE
    }


CLUSTER_WIDE = {"PersistentVolume", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


def test_no_kind_of_the_whole_cluster_is_forgotten(helm):
    """All other kinds of the chart are namespaced.

    https://kubernetes.io/docs/reference/kubernetes-api/
    """
    kinds = {
        item["kind"]
        for file in VALUES.glob("*.yaml")
        for item in helm.template(file, over=EVERYTHING).objects
    }
    namespaced = {
        "ConfigMap", "CronJob", "ExternalSecret", "Job", "NetworkPolicy", "PersistentVolumeClaim", "Pod",
        "PodMonitor", "Role",
        "RoleBinding", "Secret", "ServiceAccount",
    }  # fmt: skip
    assert kinds - namespaced == CLUSTER_WIDE


EVERYTHING = {"admin": {"create": True}, "admissionPolicy": {"create": True}}


def test_an_external_secret_has_both_fields(helm):
    """With the operator's defaults said, so that a sync shows no difference."""
    spec = rendered(helm, values(**EXTERNAL)).one("ExternalSecret")["spec"]
    assert spec["secretStoreRef"] == {"name": "vault", "kind": "ClusterSecretStore"}
    assert spec["refreshInterval"] == "1h"
    assert spec["data"] == [
        {"secretKey": name, "remoteRef": {"key": "pdg/ceph", "property": name}}
        for name in ("userID", "userKey")
    ]
    given = helm.template(EVERY_KEY).one("ExternalSecret")["spec"]
    assert [entry["remoteRef"]["property"] for entry in given["data"]] == ["user", "key"]


# What is refused -----------------------------------------------------------------------------------------------------

SECRET = "/storage/data/cephfs/secret"
TWICE = base64.b64encode(KEY.encode()).decode()


def user(name: str, key: str) -> dict[str, Any]:
    return values(values={"userID": name, "userKey": key})


# (values, what the message names)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no source and no name": (values(), "'name'"),
    "no source and an empty name": (values(name="", vault=None), f"{SECRET}/name"),
    "two sources": (values(vault=VAULT, **USER), f"{SECRET}/vault"),
    "two other sources": (values(vault=VAULT, **EXTERNAL), f"{SECRET}/externalSecret"),
    "an unknown source": (values(name="a", valut=VAULT), "'valut'"),
    "the workers' namespace": (
        values(name="a", namespace="science"),
        "storage.data.cephfs.secret.namespace: not the",
    ),
    "client.": (
        user("client.pdg", KEY),
        f"{SECRET}/values/userID': value must be 'the name without client.'",
    ),
    "no user": (user("", KEY), f"{SECRET}/values/userID"),
    "no key": (values(values={"userID": "pdg"}), "'userKey'"),
    "base64 twice": (
        user("pdg", TWICE),
        f"{SECRET}/values/userKey': value must be 'base64 once: what",
    ),
    "a newline": (
        user("pdg", f"{KEY}\n"),
        f"{SECRET}/values/userKey': value must be 'what `ceph auth get-key",
    ),
    "white space": (user("pdg", f" {KEY}"), f"{SECRET}/values/userKey"),
    "cut off": (user("pdg", KEY[:-3]), f"{SECRET}/values/userKey"),
    "too short": (user("pdg", KEY[:-4]), f"{SECRET}/values/userKey"),
    "the wrong way round": (user(KEY, "pdg"), f"{SECRET}/values/userKey"),
    "a whole keyring": (user("pdg", f"[client.pdg]\n  key = {KEY}"), f"{SECRET}/values/userKey"),
    "Vault without TLS": (vault(url="http://vault:8200"), f"{SECRET}/vault/url"),
    "Vault without a scheme": (vault(url="vault:8200"), f"{SECRET}/vault/url"),
    "a password in the address": (vault(url="https://a:b@vault:8200"), f"{SECRET}/vault/url"),
    "no place": (vault(kv={"mount": "secret"}), "'path'"),
    "a path with a slash": (
        vault(kv={"mount": "secret", "path": "/pdg"}),
        f"{SECRET}/vault/kv/path",
    ),
    "KV version as text": (
        vault(kv={"mount": "s", "path": "p", "version": "2"}),
        f"{SECRET}/vault/kv/version",
    ),
    "no role": (vault(auth={}), "'role'"),
    "an empty role": (vault(auth={"method": "jwt", "role": ""}), f"{SECRET}/vault/auth/role"),
    "approle without its secret": (vault(auth={"method": "approle", "roleID": "a"}), "'secretRef'"),
    "approle without its ID": (vault(auth=APPROLE | {"roleID": ""}), f"{SECRET}/vault/auth/roleID"),
    "a token from nowhere": (vault(auth={"method": "token"}), "'secretRef'"),
    "a Secret that is not used": (
        vault(auth={"role": "r"} | {"secretRef": APPROLE["secretRef"]}),
        "auth/secretRef",
    ),
    "where the chart mounts it": (vault(auth={"role": "r", "file": "/x"}), "'file'"),
    "two authorities": (
        vault(caBundle="-----BEGIN CERTIFICATE-----", caFile="/x"),
        f"{SECRET}/vault/caFile",
    ),
    "no certificate": (vault(caBundle="/etc/ssl/ca.pem"), f"{SECRET}/vault/caBundle"),
    "a private key": (
        vault(caBundle="-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----"),
        f"{SECRET}/vault/caBundle",
    ),
    "a schedule in words": (vault(schedule="every night"), f"{SECRET}/vault/schedule"),
    "an interval without a unit": (
        values(externalSecret=EXTERNAL["externalSecret"] | {"refreshInterval": "60"}),
        f"{SECRET}/externalSecret/refreshInterval",
    ),
}


@pytest.mark.parametrize(("over", "named"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_is_refused_by_name_and_no_key_shown(helm_in_a_table, over, named):
    said = helm_in_a_table.refusal(over, namespace="science")
    assert named in said
    assert not any(key in said for key in (KEY, TWICE, KEY[:-4], "PRIVATE"))


TAKEN: dict[str, dict[str, Any]] = {
    "a key of AES256": user("pdg", AES256_KEY),
    "a user like client": user("clients.pdg", KEY),
    "a proxy in the same pod": vault(url="http://127.0.0.1:8100"),
    "a path below": vault(url="https://example.org/vault"),
    "approle": vault(auth=APPROLE),
    "a token": vault(auth={"method": "token", "secretRef": {"name": "s", "key": "k"}}),
    "each night": vault(schedule="@daily"),
    "each second": values(
        externalSecret=EXTERNAL["externalSecret"] | {"refreshInterval": "1h0m1.5s"}
    ),
}


@pytest.mark.parametrize("over", TAKEN.values(), ids=TAKEN.keys())
def test_what_is_right_is_taken(helm, over):
    assert helm.refusal(over) == ""


@pytest.mark.parametrize(
    "file",
    [EVERY_KEY, REPOSITORY / "docs" / "admin" / "ceph-volume.md"],
    ids=lambda file: file.name,
)
def test_the_command_would_take_a_sample_as_it_is(file):
    """A user who copies the form of the sample gets a valid key; the sample is no real one."""
    ((user_id, user_key),) = re.findall(
        r"values: \{userID: (.+), userKey: (.+)\}", file.read_text("utf-8")
    )
    key = check_key(Secret(user_id), Secret(user_key))
    assert key == CephKey(user_id, SecretStr(user_key))
    assert base64.b64decode(user_key).endswith(b"not a real key!!")


def test_two_volumes_do_not_write_one_secret(helm):
    """But they may use one."""
    over = values(name="shared", **USER)
    over["storage"]["more"] = json.loads(json.dumps(over["storage"]["data"])) | {
        "mountPath": "/more"
    }
    assert (
        "storage.more.cephfs.secret: storage.data writes Secret ceph-csi-cephfs/shared already;"
        in helm.refusal(over)
    )
    over["storage"]["more"]["cephfs"]["secret"] = {"name": "shared"}
    assert helm.refusal(over) == ""


# The Job -------------------------------------------------------------------------------------------------------------


def settings(release) -> CephKeySettings:
    """What the Job's command reads."""
    (config,) = release.of("ceph-key", "ConfigMap")
    return CephKeySettings.parse(yaml.safe_load(config["data"]["ceph-key.yaml"]), "ceph-key.yaml")


def job(release) -> Object:
    (found,) = release.of("ceph-key", "Job")
    return found


def test_the_command_reads_what_was_given(each_helm):
    """And has the defaults of all else."""
    read = settings(rendered(each_helm, vault()))
    assert read == CephKeySettings.model_validate(
        {
            "vault": VAULT,
            "secret": {
                "name": OURS,
                "namespace": "ceph-csi-cephfs",
                "owner": "science/pdgrun",
                "labels": {
                    "app.kubernetes.io/name": "k8s-parsl",
                    "app.kubernetes.io/instance": "pdgrun",
                    "app.kubernetes.io/component": "ceph-key",
                },
            },
        }
    )


def test_every_key_of_vaults_arrives(helm):
    """Where the chart does not use it itself: caBundle is a file, and schedule the CronJob's."""
    release = helm.template(EVERY_KEY)
    read = {
        config["metadata"]["name"].partition("ceph-key-")[2].rsplit("-", 2)[0]: config["data"]
        for config in release.of("ceph-key", "ConfigMap")
    }
    given = yaml.safe_load(EVERY_KEY.read_text())["storage"]
    for key, data in read.items():
        wanted = given[key]["cephfs"]["secret"]["vault"]
        got = yaml.safe_load(data["ceph-key.yaml"])
        CephKeySettings.parse(got, key)
        for name in ("adopt", "timeBudget"):
            assert got.get(name) == wanted.pop(name, None)
        assert data.get("ca.crt") == wanted.get("caBundle")
        if wanted.pop("caBundle", None):
            wanted["caFile"] = "/etc/k8s-parsl/ca.crt"
        wanted.pop("schedule", None)
        wanted["auth"].pop("secretRef", None)
        assert got["vault"] == wanted
    assert read.keys() == {"tiles-0", "inputs-0"}


def test_defaults_are_the_commands_own():
    """The schema says again what the command's models say; here they are tied."""
    for ours, theirs in (
        (KeyPlace, KeyKv),
        (VaultSource, CephKeySettings),
    ):
        shared = ours.model_fields.keys() & theirs.model_fields.keys()
        for name in shared - {"vault"}:
            assert ours.model_fields[name].default == theirs.model_fields[name].default, name
            assert ours.model_fields[name].alias == theirs.model_fields[name].alias, name
            assert ours.model_fields[name].description == theirs.model_fields[name].description, (
                name
            )
    assert KeyPlace.model_fields.keys() == KeyKv.model_fields.keys()


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        (
            {"role": "r"},
            "In Vault, role r must be bound to namespace ceph-csi-cephfs and ServiceAccount",
        ),
        (
            {"method": "jwt", "role": "r"},
            "(audience vault).\ndocs/admin/vault.md has the commands.",
        ),
        ({"role": "r", "audience": "mine"}, "(audience mine)."),
        (APPROLE, ""),
    ],
)
def test_notes_say_what_vaults_role_must_be_bound_to(helm, auth, said):
    """Where there is a role: the chart makes up the name of the ServiceAccount."""
    command = ["install", "pdgrun", "chart", "-n", "science", "--dry-run=client", "-f", "-"]
    notes = helm(*command, stdin=json.dumps(vault(auth=auth))).partition("NOTES:\n")[2]
    assert said in notes
    assert ("must be bound" in notes) == bool(said)


@pytest.mark.parametrize(
    "url", ["https://v:8200", "http://[::1]:8200", "http://localhost", "https://v/a/b"]
)
def test_the_schema_takes_an_address_that_the_command_takes(helm, url):
    assert helm.refusal(vault(url=url)) == ""
    assert settings(rendered(helm, vault(url=url))).vault.url == url


def test_the_jobs_account_may_do_one_thing(helm):
    release = rendered(helm, vault())
    (account,), (role,), (binding,) = (
        release.of("ceph-key", kind) for kind in ("ServiceAccount", "Role", "RoleBinding")
    )
    name = account["metadata"]["name"]
    assert name.startswith("science-pdgrun-ceph-key-data-")
    assert role["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": [OURS],
            "verbs": ["get", "patch", "create"],
        }
    ]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": name, "namespace": "ceph-csi-cephfs"}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert (
        account["metadata"]["name"]
        == job(release)["spec"]["template"]["spec"]["serviceAccountName"]
        == name
    )
    assert account["automountServiceAccountToken"] is False


def tokens(pod: Object) -> dict[str, Object]:
    """Tokens of the pod's account, by where they are mounted."""
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    return {
        f"{mounts[volume['name']]}/{source['serviceAccountToken'].pop('path')}": source[
            "serviceAccountToken"
        ]
        for volume in json.loads(json.dumps(pod["volumes"]))
        for source in volume.get("projected", {}).get("sources", [])
        if "serviceAccountToken" in source
    }


def test_vault_gets_a_token_that_is_good_for_nothing_else(helm):
    """Nor is the API server's any good to Vault."""
    api = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    default = Auth.model_fields["file"].default
    pod = job(rendered(helm, vault()))["spec"]["template"]["spec"]
    assert tokens(pod) == {
        default: {"audience": Auth.model_fields["audience"].default, "expirationSeconds": 600},
        api: {"expirationSeconds": 3600},
    }
    pod = job(rendered(helm, vault(auth={"role": "r", "audience": "other"})))["spec"]["template"][
        "spec"
    ]
    assert tokens(pod)[default]["audience"] == "other"
    pod = job(rendered(helm, vault(auth=APPROLE)))["spec"]["template"]["spec"]
    assert tokens(pod).keys() == {api}
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "vault"]
    assert volume["secret"] == {
        "secretName": "s",
        "defaultMode": 0o444,
        "items": [{"key": "k", "path": "credential"}],
    }


def test_its_pod_fits_pod_securitys_restricted_profile(helm, values_file):
    """It needs no PVC, and no Secret or ConfigMap but its own, from the release's namespace."""
    release = helm.template(values_file, over={"admin": {"create": True}})
    jobs = release.of("ceph-key", "Job")
    crons = [item["spec"]["jobTemplate"] for item in release.of("ceph-key", "CronJob")]
    ours = {item["metadata"]["name"] for item in release.of("ceph-key", "ConfigMap")} | {
        "kube-root-ca.crt"
    }
    for item in [*jobs, *crons]:
        spec = item["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] >= 10000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "fsGroup" not in spec["securityContext"]
        assert spec.keys().isdisjoint({"initContainers", "resourceClaims"})
        (container,) = spec["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert all("value" in variable for variable in container.get("env", []))
        assert "envFrom" not in container
        assert spec["automountServiceAccountToken"] is False
        kinds = {kind for volume in spec["volumes"] for kind in volume.keys() - {"name"}}
        assert kinds <= {"configMap", "projected", "emptyDir", "secret"}
        assert {
            volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume
        } <= ours
        labels = item["spec"]["template"]["metadata"]["labels"]
        assert {"app.kubernetes.io/version", "helm.sh/chart"}.isdisjoint(labels)


@pytest.mark.parametrize(
    "asked",
    [
        {"tolerations": [{"key": "dedicated", "operator": "Exists"}]},
        {"nodeSelector": {"a": "b"}},
        {"runtimeClassName": "kata"},
        {"schedulerName": "other"},
        {"securityContext": {"runAsUser": 20001}},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_its_pod_is_placed_as_pod_says(helm, asked):
    """As the launcher's and the workers'."""
    spec = rendered(helm, vault() | {"pod": asked}).of("ceph-key", "Job")[0]["spec"]["template"][
        "spec"
    ]
    ((field, value),) = asked.items()
    assert (
        spec[field] == value
        if not isinstance(value, dict)
        else value.items() <= spec[field].items()
    )


def test_it_runs_where_the_other_pods_may(helm):
    """With the launcher's image, and what `pod` says of places and proxies."""
    proxy = {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
    release = helm.template(
        EVERY_KEY, over={"pod": {"env": [proxy, {"name": "OMP_NUM_THREADS", "value": "1"}]}}
    )
    for item in release.of("ceph-key", "Job"):
        spec = item["spec"]["template"]["spec"]
        for field in (
            "nodeSelector",
            "affinity",
            "imagePullSecrets",
            "hostAliases",
            "dnsConfig",
            "priorityClassName",
        ):
            assert spec[field] == release.launcher["spec"][field], field
        for field in ("image", "imagePullPolicy", "securityContext"):
            assert spec["containers"][0][field] == container(release.launcher, "launcher")[field], (
                field
            )
        assert spec["containers"][0]["env"] == [proxy]
        assert spec["terminationGracePeriodSeconds"] == 15


def test_it_ends_at_once_where_another_try_cannot_help(helm):
    """docs/dev/architecture.md, "Exit codes". Vault sealed or down (69) is tried again."""
    spec = job(rendered(helm, vault()))["spec"]
    fail, ignore = spec["podFailurePolicy"]["rules"]
    final = [ExitCode.USAGE, ExitCode.DATA, ExitCode.PERMISSION, ExitCode.CONFIGURATION]
    assert fail["onExitCodes"] == {
        "containerName": "ceph-key",
        "operator": "In",
        "values": [int(c) for c in final],
    }
    assert ignore["action"] == "Ignore"
    assert spec["backoffLimit"] == 6
    assert (
        spec["template"]["spec"]["containers"][0]["terminationMessagePolicy"]
        == "FallbackToLogsOnError"
    )


def test_a_schedule_adds_to_the_job(helm):
    """The first key does not wait for it, and both do the same."""
    release = rendered(helm, vault(schedule="0 3 * * *"))
    (cron,) = release.of("ceph-key", "CronJob")
    assert cron["spec"]["schedule"] == "0 3 * * *"
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    assert cron["spec"]["jobTemplate"]["spec"] == job(release)["spec"]
    assert job(release) == job(rendered(helm, vault()))


# Its name ------------------------------------------------------------------------------------------------------------

PROD = VALUES / "prod.yaml"


def name(helm, over: dict[str, Any]) -> str:
    over = {"admin": {"create": True}} | over
    return str(job(helm.template(PROD, over=over))["metadata"]["name"])


def prod(**over: Any) -> dict[str, Any]:
    return {"storage": {"prod-0": {"cephfs": {"secret": {"vault": over}}}}}


SAME: dict[str, dict[str, Any]] = {
    "nothing": {},
    "another workflow": {"workflow": {"kwargs": {"max_zoom": 3}}},
    "another run": {"run": {"id": "again"}},
    "an executor": {"executors": {"more": {}}},
    "the workflow's image": {"image": {"tag": "2", "pullPolicy": "Always", "runtime": "inject"}},
    "an image of all pods": {"pod": {"image": "other:1"}},
    "the launcher's size": {"launcher": {"resources": {"limits": {"memory": "1Gi"}}}},
    "the launcher's variables": {"launcher": {"env": [{"name": "A", "value": "b"}]}},
    "the launcher's pod": {"launcher": {"pod": {"nodeSelector": {"a": "b"}}}},
    "a claim's volume in all pods": {"pod": {"volumes": [{"name": "x", "emptyDir": {}}]}},
    "a variable from a Secret": {
        "pod": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]}
    },
    "the schedule": prod(schedule="0 1 * * *"),
    "the size of the volume": {"storage": {"prod-0": {"size": "3Ti"}}},
}
ANOTHER: dict[str, dict[str, Any]] = {
    "image": {"launcher": {"image": {"tag": "2"}}},
    "pull policy": {"launcher": {"image": {"pullPolicy": "Always"}}},
    "Vault's address": prod(url="https://other:8200"),
    "its authority": prod(caBundle="-----BEGIN CERTIFICATE-----"),
    "the role": prod(auth={"role": "other"}),
    "the audience": prod(auth={"audience": "other"}),
    "the path": prod(kv={"path": "other"}),
    "adoption": prod(adopt=True),
    "the time": prod(timeBudget=60),
    "the Secret": {"storage": {"prod-0": {"cephfs": {"secret": {"name": "other"}}}}},
    "where pods run": {"pod": {"nodeSelector": {"a": "b"}}},
    "a proxy": {"pod": {"env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]}},
}


@pytest.mark.parametrize("over", SAME.values(), ids=SAME.keys())
def test_the_same_job(helm, over):
    assert name(helm, over) == name(helm, {})


def test_another_job(helm):
    """Anything that changes what the Job does makes a new one: a Job cannot be changed."""
    names = {what: name(helm, over) for what, over in ANOTHER.items()} | {"nothing": name(helm, {})}
    assert len(set(names.values())) == len(names), names
    assert all(found.startswith("pdgrun-pdgrun-ceph-key-prod-0-") for found in names.values())


def test_who_brings_the_key_is_no_matter_of_the_run(helm):
    """Nor of the volume: both stay what they are when only the source of the Secret changes."""
    one, *others = [
        rendered(helm, values(name="same", **source))
        for source in ({}, USER, EXTERNAL, {"vault": VAULT})
    ]
    for other in others:
        assert other.job_name == one.job_name
        assert other.one("PersistentVolume") == one.one("PersistentVolume")


def test_both_helms_name_the_same_job(each_helm, helm):
    assert name(each_helm, {}) == name(helm, {})


# Secrecy -------------------------------------------------------------------------------------------------------------


def test_a_key_is_in_one_secret_alone(helm):
    """And in no other object, setting or note; NOTES warn that Helm's own Secret has the values."""
    over = values(**USER)
    for item in rendered(helm, over).objects:
        assert (KEY in str(item)) == (item["kind"] == "Secret")
    text = helm(
        "install", "pdgrun", str(CHART), "--dry-run=client", "-f", "-", stdin=json.dumps(over)
    )
    notes = text.partition("NOTES:\n")[2]
    assert KEY not in notes
    assert "WARNING: the Ceph key of volume data is in the values" in notes
    assert "`helm get values pdgrun`" in notes


def test_a_values_file_for_a_real_place_holds_no_key(helm, values_file):
    """Nor does what comes of it say anything but where one is."""
    release = helm.template(values_file, over={"admin": {"create": True}})
    for item in release.all("ConfigMap"):
        assert "userKey:" not in str(item)
    assert [item["metadata"]["name"] for item in release.all("Secret")] == (
        ["pdgrun-pdgrun-trial-0-ceph-70cd589b"] if values_file == EVERY_KEY else []
    )


@pytest.mark.parametrize("page", ["ceph-volume", "vault"])
def test_what_the_page_shows_is_what_the_chart_takes(helm, page):
    """Values, and the names that an administrator copies."""
    text = (VALUES.parent / "docs" / "admin" / f"{page}.md").read_text("utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert len(blocks) >= 2
    for block in blocks:
        assert helm.refusal(MINIMAL | block) == ""
    if page == "vault":
        (account,) = helm.template(over=MINIMAL | blocks[0]).of("ceph-key", "ServiceAccount")
        assert f"bound_service_account_names={account['metadata']['name']} " in text
        assert f"bound_service_account_namespaces={account['metadata']['namespace']} " in text
