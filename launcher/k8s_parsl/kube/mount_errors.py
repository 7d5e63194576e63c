"""What to check when a volume cannot be mounted.

The reason of a failed mount is in an event of the pod, in the words of a program that the user may
never have heard of, and they often name another fault than the one there is: "no mds server is up"
is often a wrong user. The texts of ceph-fuse, ceph-csi and kubelet were seen on the testbed
(tests/testbed/test_ceph.py causes each of them). Those of the kernel client are from its
documentation, since the testbed has no kernel client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from k8s_parsl_runtime.shared.errors import one_line

# Characters of the original text that are shown. It is long (all arguments of ceph-fuse), and its
# end says what went wrong.
SHOWN = 300


@dataclass(frozen=True)
class Symptom:
    """A text of a failed mount, and what to check.

    Args:
        text: A regular expression.
        check: For the user; may refer to the groups of ``text``.
        seen: On the testbed; else it is from the documentation.
    """

    text: str
    check: str
    seen: bool = True


KEY = "the Secret's userID (without client.) and userKey (that user's key, base64-encoded once)"

# The first one that matches counts.
SYMPTOMS = (
    Symptom(
        r"failed to find the secret (\S+) in the namespace (\S+)",
        r"Secret \2/\1 does not exist (yet): storage.<key>.cephfs.secret names it; kubelet "
        "tries again until it exists",
    ),
    Symptom(
        r"missing ID field 'userID' in secrets",
        "the Secret has no userID: its keys must be userID and userKey",
    ),
    Symptom(
        r"missing key field 'userKey' in secrets",
        "the Secret has no userKey: its keys must be userID and userKey",
    ),
    Symptom(
        r"missing configuration for cluster ID \"?'?([^\s\"']*)",
        r"clusterID \1 is not in the CSI driver's configuration: use the Ceph cluster's fsid "
        "(ceph fsid)",
    ),
    Symptom(
        r"failed to decode key",
        "the Secret's userKey is not a Ceph key: it was base64-encoded twice, cut, or holds more "
        "than the key",
    ),
    Symptom(
        r"rejected us \(non-allowable root '([^']*)'\)",
        r"the user's caps do not cover rootPath \1: check rootPath, or ask for caps "
        "(ceph fs authorize)",
    ),
    Symptom(
        r"mdsmap subscription failed: \(2\) No such file or directory",
        "there is no file system of that name: check fsName (ceph fs ls)",
    ),
    Symptom(
        r"probably no MDS server is up",
        "no MDS of that file system answers: check fsName, then ask whether its MDS is up "
        "(ceph fs status)",
    ),
    Symptom(
        r"ceph mount failed with \(2\) No such file or directory",
        "rootPath does not exist in the file system: compare it with ceph fs subvolume getpath",
    ),
    Symptom(
        r"ceph mount failed with \((?:1|13)\)",
        "the user's caps do not allow this mount: check rootPath and the caps (ceph auth get)",
    ),
    Symptom(
        r"(?s)-n client\.client\.(\S+) .*failed to fetch mon config",
        r"the Secret's userID begins with client.: it must be \1 alone",
    ),
    Symptom(
        r"(?s)-n client\.\S+\n.*failed to fetch mon config",
        "the Secret's userID ends in a line break: write it without one (echo -n)",
    ),
    Symptom(
        r"failed to fetch mon config",
        f"Ceph does not know this user and key: check {KEY}; or its monitors do not answer",
    ),
    Symptom(
        r"driver name (\S+) not found in the list of registered CSI drivers",
        r"the CSI driver \1 does not run on that node: ask the administrator",
    ),
    Symptom(
        r"[Tt]ransport endpoint is not connected",
        "the mount on that node died (its ceph-fuse was restarted): use another node, or "
        "ask for a restart",
    ),
    # The kernel client: https://docs.ceph.com/en/latest/cephfs/troubleshooting/#mount-issues
    Symptom(
        r"no mds server is up or the cluster is laggy",
        f"the kernel says this for a wrong user too: check {KEY}, then fsName, then ask whether "
        "the MDS is up",
        seen=False,
    ),
    Symptom(
        r"mount error 13 = Permission denied",
        f"check {KEY}, then the user's caps for rootPath",
        seen=False,
    ),
    Symptom(
        r"mount error 2 = No such file or directory",
        "rootPath does not exist in the file system",
        seen=False,
    ),
    Symptom(
        r"mount error 110 = Connection timed out",
        "the monitors do not answer from that node",
        seen=False,
    ),
)

# A key that ceph-fuse cannot read, and any text of a key's alphabet and length.
_SECRETS = (
    re.compile(r"(failed to decode key ')[^']*"),
    re.compile(r"(key(?:file)?[=: ]+['\"]?)[A-Za-z0-9+/=]{20,}"),
    re.compile(r"()(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{38,}={0,2}(?![A-Za-z0-9+/=])"),
)


def redact(text: str) -> str:
    """Return ``text`` without anything that may be a key.

    ceph-fuse prints a key that was encoded twice, and decoding that gives the key.
    """
    for pattern in _SECRETS:
        text = pattern.sub(r"\1***", text)
    return text


def explain(message: str) -> str:
    """Return what to check, and the end of ``message`` without keys; on one line.

    Args:
        message: Of an event. If no symptom matches, only its end is returned.
    """
    shown = one_line(redact(message))
    if len(shown) > SHOWN:
        shown = f"… {shown[-SHOWN:]}"
    for symptom in SYMPTOMS:
        if found := re.search(symptom.text, message):
            return f"{found.expand(symptom.check)} [{shown}]"
    return shown
