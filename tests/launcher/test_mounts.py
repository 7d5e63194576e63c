"""Texts of kubelet, ceph-csi and ceph-fuse for a failed mount, and what the user has to check."""

from __future__ import annotations

import pytest

from k8s_parsl.kube.mount_errors import SYMPTOMS, explain, redact

# As seen on the testbed; tests/testbed/test_ceph.py makes each of them happen.
FUSE = (
    'MountVolume.MountDevice failed for volume "cephfs-x" : rpc error: code = Internal desc = an error (exit status 1) '
    "occurred while running ceph-fuse args: [/kubelet/globalmount -m 127.0.67.89:6789 -n client.u "
    "--keyfile=***stripped*** -r /volumes/k8s-parsl/a/af20b1c6-0eb6-49c9-a9f8-b229d7510439] stderr: "
)
SEEN = {
    "fetching NodeStageSecretRef ceph/late failed: kubernetes.io/csi: failed to find the secret late in the namespace "
    'ceph with error: secrets "late" not found': "Secret ceph/late does not exist (yet)",
    "failed to get user credentials from node stage secrets: missing key field 'userKey' in secrets": "has no userKey",
    "failed to get user credentials from node stage secrets: missing ID field 'userID' in secrets": "has no userID",
    'failed to fetch monitor list using clusterID (x): missing configuration for cluster ID "x"': "clusterID x is not",
    FUSE
    + "failed to fetch mon config (--no-mon-config to skip)": "Ceph does not know this user and key",
    FUSE.replace("client.u ", "client.client.u ")
    + "failed to fetch mon config": "it must be u alone",
    FUSE.replace("client.u ", "client.u\n ") + "failed to fetch mon config": "ends in a line break",
    FUSE
    + "auth: failed to decode key '***' monclient: keyring not found failed to fetch mon config": "encoded twice",
    FUSE
    + "mds.0 rejected us (non-allowable root '/volumes/x') ceph mount failed with (1) Operation not permitted": (
        "the user's caps do not cover rootPath /volumes/x"
    ),
    FUSE
    + "mdsmap subscription failed: (2) No such file or directory ceph mount failed with (2)": "check fsName",
    FUSE
    + "probably no MDS server is up? ceph mount failed with (65536)": "no MDS of that file system answers",
    FUSE
    + "starting ceph client ceph mount failed with (2) No such file or directory": "rootPath does not exist",
    "driver name cephfs.csi.ceph.com not found in the list of registered CSI drivers": "does not run on that node",
    "lstat /x: transport endpoint is not connected": "the mount on that node died",
}
# From Ceph's documentation; not reproduced, since the testbed has no kernel client.
DOCUMENTED = {
    "exit status 32: mount error: no mds server is up or the cluster is laggy": "the kernel says this for a wrong user",
    "mount error 13 = Permission denied": "check the Secret's userID",
    "mount error 2 = No such file or directory": "rootPath does not exist",
    "mount error 110 = Connection timed out": "the monitors do not answer",
}


@pytest.mark.parametrize(("message", "advice"), [*SEEN.items(), *DOCUMENTED.items()])
def test_a_text_is_turned_into_what_to_check(message, advice):
    said = explain(message)
    assert advice in said
    assert "\n" not in said


def test_every_symptom_has_a_text():
    """A row that matches no text is a guess."""
    import re

    texts = [*SEEN, *DOCUMENTED]
    reached = {next(s.text for s in SYMPTOMS if re.search(s.text, text)) for text in texts}
    missing = {s.text for s in SYMPTOMS} - reached
    assert missing == {
        r"ceph mount failed with \((?:1|13)\)"
    }  # the same without the line of the MDS


def test_a_key_is_never_shown():
    """ceph-fuse prints a key that was encoded twice, and base64 -d of it is the key."""
    once = "QVFCMWRHVm5hR2xxYTJ4dGJtOXdjWEp6ZEhWMmQzaDVlZz09"
    for text in (
        f"auth: failed to decode key '{once}'",
        f"key={once}",
        f"found {once} here",
        f"key: {once[:40]}",
    ):
        assert once[:30] not in redact(text)
    path = "/volumes/group/subvolume/af20b1c6-0eb6-49c9-a9f8-b229d7510439"
    assert path in redact(f"rejected us (non-allowable root '{path}')")


def test_an_unknown_text_is_shown_as_it_is():
    assert explain("something\nelse") == "something else"
