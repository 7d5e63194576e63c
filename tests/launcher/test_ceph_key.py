"""The check of a Ceph user and key, and the settings of the command; no cluster, no Vault.

The whole way, with a real Vault and a real API server, is in tests/cluster/test_vault.py.
"""

from __future__ import annotations

import base64
import shutil
import struct
import subprocess

import pytest
import yaml
from pydantic import Secret

from k8s_parsl.ceph_key.budget import Budget
from k8s_parsl.ceph_key.key import check_key
from k8s_parsl.ceph_key.secret import Writer, manifest
from k8s_parsl.ceph_key.settings import CephKeySettings
from k8s_parsl_runtime.shared.errors import DataError, ExitCode, Failure


def cephx(secret=bytes(range(16)), cipher=1, length=None):
    """A key as Ceph's CryptoKey::encode makes it."""
    return base64.b64encode(
        struct.pack("<HIIH", cipher, 1700000000, 5, length or len(secret)) + secret
    ).decode()


KEY = cephx()


def check(user_id="k8s-dev-pdg-subvol-user", user_key=KEY):
    return check_key(Secret(user_id), Secret(user_key))


def twice(text):
    return base64.b64encode(text.encode()).decode()


def test_a_good_key_passes_as_it_is():
    """Nothing is changed, so nothing is said."""
    key = check()
    assert (key.user_id, key.user_key.get_secret_value(), key.notices) == (
        "k8s-dev-pdg-subvol-user",
        KEY,
        (),
    )


@pytest.mark.parametrize(
    "key", [cephx(bytes(32), cipher=2), cephx(bytes(64), cipher=7)], ids=["aes256k", "unborn"]
)
def test_longer_keys_of_other_ciphers_pass(key):
    """AES256 keys have more than 40 characters; other ciphers are not refused."""
    assert check(user_key=key).user_key.get_secret_value() == key


@pytest.mark.skipif(shutil.which("ceph-authtool") is None, reason="ceph-authtool is not installed")
def test_a_key_that_ceph_made_passes():
    """The layout is Ceph's own and not only what we hold it for."""
    key = subprocess.run(
        ["ceph-authtool", "--gen-print-key"], capture_output=True, text=True, check=True
    ).stdout
    assert check(user_key=key.strip()).notices == ()


@pytest.mark.parametrize(
    ("user_id", "user_key", "notice"),
    [
        ("client.pdg", KEY, "userID: the prefix client."),
        ("pdg\n", KEY, "userID: white space"),
        ("pdg", f"{KEY}\n", "userKey: white space"),
        ("pdg", f"  {KEY}\r\n", "userKey: white space"),
    ],
)
def test_what_can_only_be_meant_one_way_is_put_right(user_id, user_key, notice):
    """With a notice, so that the source can be corrected too."""
    key = check(user_id, user_key)
    assert (key.user_id, key.user_key.get_secret_value()) == ("pdg", KEY)
    assert [text[: len(notice)] for text in key.notices] == [notice]


BAD = {
    "twice": ("pdg", twice(KEY), "userKey is base64 twice: Ceph's key is base64 already"),
    "twice, by echo": ("pdg", twice(f"{KEY}\n"), "userKey is base64 twice, with a newline inside"),
    "the seed's example": (
        "pdg",
        "ODk3Mjk5OTg3Nzc3Nwo=",
        "base64, but not of a Ceph key (14 bytes)",
    ),
    "cut": ("pdg", KEY[:-4], "base64, but not of a Ceph key"),
    "wrong length": ("pdg", cephx(length=17), "base64, but not of a Ceph key"),
    "no cipher": ("pdg", cephx(cipher=0), "base64, but not of a Ceph key"),
    "short": ("pdg", cephx(bytes(8)), "base64, but not of a Ceph key"),
    "no base64": ("pdg", "AQDx*8lm", "userKey is not base64"),
    "missing padding": ("pdg", KEY.rstrip("="), "userKey is not base64"),
    "empty": ("pdg", " \n", "userKey is empty"),
    "keyring": (
        "pdg",
        f"[client.pdg]\n\tkey = {KEY}\n",
        "userKey has white space inside: of a keyring, write only",
    ),
    "inner newline": ("pdg", f"{KEY[:20]}\n{KEY[20:]}", "userKey has white space inside"),
    "not ASCII": ("pdg", f"{KEY}é", "userKey is not base64"),
    "a number": ("pdg", 8972999877777, "userKey is of type int: write a string"),
    "a mapping": ("pdg", {"key": KEY}, "userKey is of type dict"),
    "null": ("pdg", None, "userKey is of type NoneType"),
    "a number for a user": (17, KEY, "userID is of type int"),
    "no user": ("", KEY, "userID is not a Ceph user"),
    "only the prefix": ("client.", KEY, "userID is not a Ceph user"),
    "a keyring's head": ("[client.pdg]", KEY, "userID is not a Ceph user"),
    "two words": ("pdg user", KEY, "userID is not a Ceph user"),
    "the wrong way round": (
        KEY,
        "pdg",
        "userID holds a key: are userID and userKey the wrong way round?",
    ),
    "round and twice": (twice(KEY), "pdg", "userID holds a key"),
}


@pytest.mark.parametrize(("user_id", "user_key", "message"), BAD.values(), ids=BAD)
def test_a_bad_key_is_refused_in_one_line_that_shows_nothing_of_it(user_id, user_key, message):
    """65: bad data. ceph-fuse prints a key that it cannot read, this must not."""
    with pytest.raises(DataError) as caught:
        check(user_id, user_key)
    text = str(caught.value)
    assert message in text
    assert caught.value.exit_code is ExitCode.DATA
    assert "\n" not in text
    for value in (user_id, user_key, KEY):
        if isinstance(value, str) and len(value) > 12:
            assert value.strip() not in text
            assert KEY[14:30] not in text


def test_a_checked_key_does_not_show_itself():
    """Not by print, not by a log's repr."""
    key = check()
    assert KEY not in repr(key)
    assert KEY not in str(key)


def test_the_fingerprint_tells_keys_apart_and_nothing_else():
    """The Secret carries it, so that a rotation is seen without reading the key."""
    other = check(user_key=cephx(bytes(16)))
    assert check().fingerprint == check().fingerprint != other.fingerprint
    assert len(other.fingerprint) == 16


CONFIG = """
vault:
  url: https://vault.example.org:8200/
  auth: {role: pdg}
  kv: {mount: secret, path: pdg/ceph}
secret: {name: csi-cephfs-pdgrun-secret, namespace: ceph-csi-cephfs}
"""


def settings(change=None):
    data = yaml.safe_load(CONFIG)
    for path, value in (change or {}).items():
        *parents, key = path.split(".")
        place = data
        for parent in parents:
            place = place[parent]
        place[key] = value
    return CephKeySettings.parse(data, "ceph-key.yaml")


def test_the_least_that_has_to_be_said():
    """An address, a role, a path and a Secret; the rest has defaults."""
    it = settings()
    assert it.vault.url == "https://vault.example.org:8200"
    assert it.vault.auth.path == "auth/kubernetes"
    assert (it.vault.kv.user_id_key, it.vault.kv.user_key_key) == ("userID", "userKey")
    assert not it.adopt
    assert (it.secret.owner, it.secret.labels) == ("", {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vault.url": "vault.example.org"}, "vault.url: write the whole address"),
        ({"vault.url": "http://vault.example.org"}, "vault.url: write https://"),
        ({"vault.url": "https://me:pw@vault.example.org"}, "vault.url: only scheme, host, port"),
        ({"vault.auth": {}}, "vault.auth: role is needed with method kubernetes"),
        ({"vault.auth": {"method": "jwt"}}, "vault.auth: role is needed with method jwt"),
        ({"vault.auth": {"method": "approle"}}, "vault.auth: roleID is needed"),
        (
            {"vault.auth": {"method": "ldap"}},
            "vault.auth.method: input should be 'kubernetes', 'jwt'",
        ),
        ({"vault.kv.path": "/pdg"}, "vault.kv.path: should be a path in Vault, without a slash"),
        ({"vault.kv.version": "2"}, "vault.kv.version: input should be 'auto', 1 or 2"),
        ({"vault.kv.userIdKey": "user"}, "vault.kv.userIdKey: there is no such key"),
        ({"vault.skipVerify": True}, "vault.skipVerify: there is no such key"),
        ({"secret": {"name": "x"}}, "secret.namespace: is needed"),
        ({"adopt": "yes"}, "adopt: input should be a valid boolean"),
        ({"timeBudget": 0}, "timeBudget: input should be greater than 0"),
    ],
)
def test_wrong_settings_are_named(change, message):
    """64, before any request."""
    with pytest.raises(Failure) as caught:
        settings(change)
    assert message in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


def test_no_tls_only_to_a_proxy_in_the_same_pod():
    """Vault Agent beside us listens so."""
    assert settings({"vault.url": "http://127.0.0.1:8200"}).vault.url == "http://127.0.0.1:8200"


def test_the_secret_says_what_it_is_made_of():
    """Both fields under ceph-csi's names, encoded once; where it is from, in annotations."""
    it = settings(
        {"secret.owner": "pdgrun/pdgrun", "secret.labels": {"app.kubernetes.io/instance": "pdgrun"}}
    )
    made = manifest(it.secret, check("pdg"), 3)
    assert {name: base64.b64decode(value).decode() for name, value in made["data"].items()} == {
        "userID": "pdg",
        "userKey": KEY,
    }
    assert made["metadata"] == {
        "name": "csi-cephfs-pdgrun-secret",
        "namespace": "ceph-csi-cephfs",
        "labels": {
            "app.kubernetes.io/instance": "pdgrun",
            "app.kubernetes.io/managed-by": "k8s-parsl",
        },
        "annotations": {
            "k8s-parsl/key-sha256": check().fingerprint,
            "k8s-parsl/owner": "pdgrun/pdgrun",
            "k8s-parsl/vault-version": "3",
        },
    }


@pytest.fixture
def write(api, monkeypatch):
    """Write the good key by the API and return what was done."""
    monkeypatch.setattr("k8s_parsl.ceph_key.budget.FIRST_PAUSE_S", 0.01)

    def write(budget=5.0):
        it = settings({"secret.namespace": "science"})
        return Writer(it, api, Budget(budget)).write(manifest(it.secret, check("pdg"), 3))

    return write


def test_an_api_server_that_is_not_itself(server, write):
    """Overload and restarts pass; a conflict means to look again."""
    server.refuse("GET", 429, "too many requests")
    server.refuse("GET", 500, "etcdserver: leader changed")
    server.refuse("GET", 404, "not found", times=2)
    server.refuse("PATCH", 503, "apiserver not ready")
    server.refuse("PATCH", 409, "the object has been modified")
    assert write() == "created"
    assert [method for method, _ in server.calls] == [
        "GET",
        "GET",
        "GET",
        "PATCH",
        "PATCH",
        "GET",
        "PATCH",
    ]


def test_an_api_server_that_stays_away(server, write):
    """69: the Job tries again."""
    server.refuse("GET", 503, "apiserver not ready", times=1000)
    with pytest.raises(
        Failure, match="the API server does not answer: 503 apiserver not ready"
    ) as caught:
        write(budget=0.1)
    assert caught.value.exit_code is ExitCode.UNAVAILABLE


def test_a_webhook_that_repeats_the_key_does_not_get_it_shown(server, write):
    """Neither plain nor as the Secret has it."""
    server.refuse("GET", 404, "not found")
    server.refuse("PATCH", 400, f"webhook says: {KEY} is {twice(KEY)}")
    with pytest.raises(Failure, match=r"400 webhook says: \.\.\. is \.\.\.$") as caught:
        write()
    assert caught.value.exit_code is ExitCode.CONFIGURATION
