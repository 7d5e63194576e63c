"""The last value that a bound takes, and the first that it refuses.

Python's validator, Helm's and the launcher's models have to agree.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from chart.helm import VALUES, Helm
from k8s_parsl.ceph_key.settings import CephKeySettings
from k8s_parsl.config.helm_yaml import read_yaml
from k8s_parsl.config.nearest import keys_at
from k8s_parsl.config.settings import Settings, launcher_part
from k8s_parsl_runtime.shared.errors import UsageError
from values_schema.helm_schema import values_schema

CLAIM = {"mountPath": "/a", "existingClaim": "a"}
DIGEST = "sha256:" + "0" * 64
CEPHFS, VAULT = "storage.dev-0.cephfs", "storage.tiles-0.cephfs.secret.vault"
EXTERNAL = "storage.results-0.cephfs.secret.externalSecret"

# (key of every-key.yaml, values that are taken, values that are refused)
BOUNDS: list[tuple[str, list[Any], list[Any]]] = [
    ("image.repository", ["", "a", "127.0.0.1:5000/a/b__c"], ["-a", "a-", "A", "a b"]),
    ("image.tag", ["", "x" * 128, "1.2_3-x"], ["x" * 129, "a b", "a:b"]),
    ("image.digest", ["", DIGEST], [DIGEST[:-1], DIGEST + "0", "md5:" + "0" * 64]),
    ("image.pullPolicy", ["Always", "IfNotPresent", "Never"], ["", "always"]),
    ("image.runtime", ["inject", "included"], ["", "none", True]),
    ("image.python", ["python3", "python3.12", "/opt/conda/bin/python"], ["", "-I", "python3 -I", " python3"]),
    ("launcher.image.repository", ["a", "127.0.0.1:5000/a/b__c"], ["", "-a", "a-", "A", "a b"]),
    ("launcher.image.tag", ["", "x" * 128, "1.2_3-x"], ["x" * 129, "a b", "a:b"]),
    ("launcher.image.digest", ["", DIGEST], [DIGEST[:-1], DIGEST + "0", "md5:" + "0" * 64]),
    ("launcher.image.pullPolicy", ["Always", "IfNotPresent", "Never"], ["", "always"]),
    ("launcher.resources.requests.cpu", ["100m", 0.5, None], ["half", "", "-1"]),
    ("launcher.resources.limits.memory", ["1Gi", "1e9", 1, None], ["1GB", "", "x"]),
    ("launcher.runtimeVolume", ["copy", "image"], ["", "emptyDir"]),
    ("laptop.python", ["", "python3", "/a b/python3"], [None, 3]),
    ("imagePullSecrets", [[], [{"name": "a.b-c"}]], [[{}], [{"name": ""}], [{"name": "A"}], [{"name": "a" * 254}]]),
    ("workflow.call", ["m:f", "a.b.c:f"], ["m", ":f", "m:", "m:f.g", "1m:f", "a..b:f"]),
    ("workflow.failedTasks", ["fail", "warn"], ["", "ignore", True]),
    ("workflow.path", ["/a", "/a/b"], ["/", "a", "/a/", "/a:b"]),
    ("workflow.workDir", ["", "/a", "/a/b"], ["/", "a", "/a/", "/a:b"]),
    ("workflow.files", [{"a" * 253: ""}, {"A-b_c.d": ""}], [{"a" * 254: ""}, {"": ""}, {"a/b": ""}]),
    ("workflow.git.url", ["http://a/b", "https://a.b:1/c/d.git"], ["a/b", "ssh://a/b", "https://a", "https://u@a/b"]),
    ("workflow.git.commit", ["0" * 40, "abcdef0123" * 4], ["0" * 39, "0" * 41, "A" * 40, "g" * 40, "main"]),
    ("workflow.git.path", ["", "a", "a/b", ".a/..b"], ["/a", "a/", "a//b", ".", "..", "../a", "a/../b"]),
    ("workflow.git.secret", ["", "a.b-c", "a" * 253], ["A", "-a", "a b", "a" * 254]),
    ("run.volume", ["", "dev-0"], [1, None]),
    ("run.resumeFrom", ["", "latest", "0a1b2c3d", "0a1b2c3d-4e5f6a7b"], [1, None, "x" * 254]),
    ("run.keepRuns", [1, 1000, None], [0, -1, 1.5, "5"]),
    ("run.keepDays", [0.5, 90, None], [0, -1, "90"]),
    ("executors", [{"a": {}}, {"a" * 30: {}}, {"0-a": {}}], [{}, {"a" * 31: {}}, {"-a": {}}, {"a-": {}}, {"A": {}}]),
    ("executors.large.initBlocks", [0, 1], [-1, 1.5, "1"]),
    ("executors.large.minBlocks", [0, 1], [-1]),
    ("executors.large.maxBlocks", [1, 10000], [0]),
    ("executors.large.parallelism", [0, 0.5, 1], [-0.1, 1.1]),
    ("executors.large.maxWorkersPerNode", [1, 500], [0]),
    ("executors.large.coresPerWorker", [0.001, 64], [0, -1]),
    ("executors.large.memPerWorker", [0.001, 64, None], [0, -1]),
    ("executors.large.availableAccelerators", [0, 1, [], ["MIG-GPU-8f/1/0"], ["0,1"]], [-1, 0.5, "1", True, [0]]),
    ("executors.large.availableAccelerators", [["0.1"]], [[""], ["a b"], ["-a"], ["$a"]]),
    ("executors.large.prefetchCapacity", [0, 1], [-1]),
    ("executors.large.heartbeatPeriod", [1, 29], [0, 0.5]),
    ("executors.large.heartbeatThreshold", [6, 3600], [1]),
    ("executors.large.pendingTimeout", [0.1, 1e9], [0, -1]),
    ("executors.large.configurationTimeout", [0.1, 1e9], [0, -1]),
    ("parsl.strategy", ["none", "simple", "htex_auto_scale"], ["", "auto"]),
    ("parsl.strategyPeriod", [0.1], [0]),
    ("parsl.maxIdletime", [0, 0.5], [-0.1]),
    ("parsl.retries", [0, 9], [-1]),
    ("parsl.lossRetries", [0, 9], [-1]),
    ("parsl.retryLostTasks", ["cached", "all", "none", [], ["tile"]], ["some", True, [1]]),
    ("parsl.maxPending", [0, 1, 10**6], [-1, 1.5, "9"]),
    ("parsl.cache", ["declared", "all", "none"], ["", "cached", True, ["tile"]]),
    ("parsl.cacheKey", ["arguments", "source"], ["", "name", False]),
    ("parsl.checkpointDelay", [0, 0.5, 600], [-0.1, 601, "1", None]),
    ("parsl.encrypted", [True, False], ["true", 1]),
    ("parsl.workerPort", [1024, 65000], [1023, 65001]),
    ("parsl.monitoring.enabled", [True, False], ["yes", 1, None]),
    ("parsl.monitoring.resourceMonitoringInterval", [0, 0.5, 3600], [-1, "30", None]),
    ("apps", [{}, {"a": {}}, {"_A1": {}}, {"größe": {}}, {"a" * 200: {}}], [{"a" * 201: {}}, {"": {}}, {"1a": {}}]),
    ("apps", [], [{"a-b": {}}, {"a.b": {}}, {"a b": {}}, {"<lambda>": {}}, {"a`": {}}, {"a[": {}}, {"a\n": {}}]),
    ("apps.tile", [{}, {"retries": None}], [[], "tile", 3, {"walltime": 3}, {"maxrunning": 3}]),
    ("apps.tile.timeout", [0.001, 1e8, None], [0, -1, 1.1e8, "60", "1m", True]),
    ("apps.tile.maxRunning", [1, 1000000, None], [0, -1, 1.5, 1000001, "4", True]),
    ("apps.tile.retries", [0, 1000000, None], [-1, 1.5, 1000001, "4"]),
    ("apps.tile.retryDelay", [0, 0.5, 604800], [-0.1, 604801, "10"]),
    ("logging.level", ["DEBUG", "INFO", "WARNING", "ERROR"], ["info", "FATAL"]),
    ("logging.progressPeriod", [0.1], [0]),
    ("page.enabled", [True, False], ["yes", 1, None]),
    ("page.port", [1024, 65535], [1023, 65536, "8080", None]),
    ("metrics.enabled", [True, False], ["yes", 1]),
    ("metrics.port", [1024, 65535], [1023, 65536, "9090", 9090.5]),
    ("metrics.podMonitor.interval", ["", "0", "30s", "1m30s", "500ms"], ["30", "1 m", "-1s", "s", "1s1m"]),
    ("notify.secret", ["", "a.b-c", "a" * 253], ["A", "-a", "a b", "a" * 254]),
    ("notify.secretKey", ["url", "A_b.c-d", "a" * 253], ["", "a b", "a/b", "a" * 254]),
    ("notify.when", [[], ["end"], ["end", "failure", "stall"]], ["end", ["start"], [True], None]),
    ("notify.stallAfter", [0.1, 1e9], [0, -1]),
    ("logging.keepPerPod", ["1k", "8Mi", "1.5Gi", "1T"], ["", "0", "0Mi", "8", "8MiB", "-1Mi", "1Pi", 8388608]),
    ("logging.keepPerRun", ["1k", "256Mi", "2Gi"], ["", "0Gi", "256", "256MB", None]),
    ("worker.tolerationSeconds", [0, 300], [-1]),
    ("storage", [{"dev-0": CLAIM}], [{"Dev": CLAIM}, {"a" * 31: CLAIM}]),
    ("storage.dev-0.mountPath", ["/a", "/a b"], ["/", "a", "/a/", "/a:b"]),
    ("storage.dev-0.readOnly", [True, False], ["no", 0]),
    ("storage.dev-0.size", ["1", "1.5Ti", 5, "5e3"], ["", "1 Gi", "1GB", "-1Gi"]),
    ("storage.dev-0.accessModes", [["ReadWriteOncePod"], ["ReadWriteMany", "ReadOnlyMany"]], [[], ["RWX"]]),
    ("storage.dev-0.subPath", ["a", "a/b", ".a", None], ["", "/a", "a/", "..", "a/../b", "."]),
    ("storage.dev-0.claimName", ["a", "a.b", None], ["", "A", "a_b", "-a", "a" * 254]),
    ("storage.dev-0.volumeName", ["a", None], ["", "A"]),
    ("storage.shared.existingClaim", ["a"], ["", "A", None]),
    ("storage.scratch.storageClassName", ["a"], ["", "A", None]),
    (f"{CEPHFS}.clusterID", ["c", "c" * 36], ["", "c" * 37]),
    (f"{CEPHFS}.rootPath", ["/a", "/a/.b", "/a..b"], ["", "/", "a", "/a/", "/a//b", "/..", "/a/../b", "/./b", "/a b"]),
    (f"{CEPHFS}.mounter", ["", "kernel", "fuse"], ["nfs", "Kernel"]),
    (f"{CEPHFS}.driver", ["a.b"], ["", "a b"]),
    (f"{CEPHFS}.volumeHandle", ["", "x" * 128], ["x" * 129]),
    (f"{CEPHFS}.mountOptions", [[], ["noatime"]], ["noatime", [1]]),
    (f"{CEPHFS}.secret.name", ["a", "a" * 253], ["A", "a" * 254]),
    (f"{CEPHFS}.secret.namespace", ["a"], ["", "A"]),
    ("storage.trial-0.cephfs.secret.values.userID", ["pdg", "client"], ["", "client.pdg"]),
    ("storage.trial-0.cephfs.secret.values.userKey", ["AQ" + "A" * 38], ["", "A" * 32, "QS" + "A" * 38, "key = AQ"]),
    (f"{VAULT}.url", ["https://v", "https://v:1/a", "http://127.0.0.1:8200"], ["v", "http://v", "https://", "https://a@v"]),
    (f"{VAULT}.timeout", [0.1], [0]),
    (f"{VAULT}.timeBudget", [0.1], [0]),
    (f"{VAULT}.adopt", [True, False], ["yes"]),
    (f"{VAULT}.schedule", ["", "@daily", "@every 5m", "0 3 * * 1-5"], ["daily", "0 3 * *", "0 3 * * * *"]),
    (f"{VAULT}.caBundle", ["", "-----BEGIN CERTIFICATE-----"], ["pem", "-----BEGIN PRIVATE KEY-----"]),
    ("storage.inputs-0.cephfs.secret.vault.caFile", ["", "/a/b.pem"], ["a", "/", "/a/", "/a:b"]),
    (f"{VAULT}.auth.method", ["kubernetes", "jwt"], ["", "ldap", "approle"]),
    (f"{VAULT}.auth.role", ["r"], [""]),
    (f"{VAULT}.auth.mount", ["", "a", "a/b"], ["/a", "a/", " a"]),
    (f"{VAULT}.kv.mount", ["a", "a/b"], ["", "/a", "a/", "a "]),
    (f"{VAULT}.kv.path", ["a", "a/b"], ["", "/a", "a/"]),
    (f"{VAULT}.kv.version", ["auto", 1, 2], ["1", 3, ""]),
    (f"{VAULT}.kv.userIDKey", ["a"], [""]),
    (f"{VAULT}.kv.userKeyKey", ["a"], [""]),
    ("storage.inputs-0.cephfs.secret.vault.auth.roleID", ["a"], [""]),
    ("storage.inputs-0.cephfs.secret.vault.auth.secretRef.key", ["a" * 253, "A_b"], ["", "a" * 254, "a/b"]),
    ("storage.inputs-0.cephfs.secret.vault.auth.secretRef.name", ["a", "a" * 253], ["", "A", "a" * 254]),
    (f"{EXTERNAL}.path", ["a"], [""]),
    (f"{EXTERNAL}.userIDKey", ["a"], [""]),
    (f"{EXTERNAL}.userKeyKey", ["a"], [""]),
    (f"{EXTERNAL}.storeRef.name", ["a", "a" * 253], ["", "A", "a" * 254]),
    (f"{EXTERNAL}.refreshInterval", ["0", "30m", "1h30m", "1.5h"], ["", "30", "1d"]),
    (f"{EXTERNAL}.storeRef.kind", ["SecretStore", "ClusterSecretStore"], ["", "Vault"]),
    ("pod.image", ["a:1", f"a@{DIGEST}", f"h:1/a:latest@{DIGEST}", "h:1/latest:1.latest", None], ["", "a b:1"]),
    ("pod.image", [], ["a", "h:1/a", "a:latest", "h:1/a:latest"]),
    ("pod.sharedMemory", ["64Mi", 1, None], ["", "1 Gi", "a lot"]),
    ("executors.small.pod.resources.requests.memory", ["1Gi", "1e9", 1, None], ["1GB", "", "x"]),
    ("executors.small.pod.resources.limits.memory", ["1Gi", "1e9", 1, None], ["1GB", "", "x"]),
    ("job.backoffLimit", [0, 9], [-1]),
    ("job.activeDeadlineSeconds", [1, None], [0]),
    ("job.ttlSecondsAfterFinished", [0, None], [-1]),
    ("job.suspend", [True], ["true"]),
    ("serviceAccount.name", ["", "a.b"], ["A", "-a", "a" * 254]),
    ("workerServiceAccount.name", ["", "a"], ["A"]),
    ("networkPolicy.apiServer.ports", [[1], [443, 65535]], [[], [0], [65536], ["443"]]),
    ("networkPolicy.apiServer.cidrs", [[], ["192.0.2.0/24"], ["2001:db8::/32"]], [["192.0.2.1"], ["x/24"], [""]]),
    ("admissionPolicy.images", [[], ["registry.example.org/pdg/"]], [[""], ["a b"]]),
]  # fmt: skip
EVERY_KEY = read_yaml(VALUES / "every-key.yaml")


@functools.cache
def validator() -> Draft202012Validator:
    """Of the models as they are, not of the file that is made of them."""
    return Draft202012Validator(values_schema())


def with_value(key: str, value: Any) -> dict[str, Any]:
    """every-key.yaml with that one value, without what would not fit beside it."""
    values = copy.deepcopy(EVERY_KEY)
    if key in ("storage", "storage.dev-0.readOnly"):
        values["run"]["volume"] = ""
    if key == "workflow.files":
        values["workflow"]["git"] = {}
    if key == "image.tag":
        values["image"]["digest"] = ""
    if key == f"{VAULT}.caBundle":
        values["storage"]["tiles-0"]["cephfs"]["secret"]["vault"].pop("caFile", None)
    *above, last = key.split(".")
    node = values
    for name in above:
        node = node[name]
    node[last] = value
    return values


@pytest.mark.parametrize(("key", "taken", "refused"), BOUNDS, ids=[key for key, _, _ in BOUNDS])
def test_both_sides_of_a_bound(key, taken, refused):
    for value in taken:
        assert list(validator().iter_errors(with_value(key, value))) == [], value
    for value in refused:
        assert not validator().is_valid(with_value(key, value)), value


@pytest.mark.parametrize(("key", "taken", "refused"), BOUNDS, ids=[key for key, _, _ in BOUNDS])
def test_helm_draws_the_same_line(
    helm: Helm, chart_of_cases: Path, key: str, taken: list[Any], refused: list[Any]
) -> None:
    """Its validator, and its regular expressions, are Go's."""
    cases = [with_value(key, value) for value in taken + refused]
    command = ["template", "cases", str(chart_of_cases), "-f", "-"]
    said = helm(*command, stdin=json.dumps({"cases": cases}), check=False)
    found = {int(number) for number in re.findall(r"at '/cases/(\d+)", said)}
    assert found == set(range(len(taken), len(cases))), said


def is_the_launchers(key: str) -> bool:
    *place, name = key.split(".")
    return name in keys_at(Settings.model_json_schema(), place)


LAUNCHERS = [row for row in BOUNDS if is_the_launchers(row[0])]


@pytest.mark.parametrize(
    ("key", "taken", "refused"), LAUNCHERS, ids=[key for key, _, _ in LAUNCHERS]
)
def test_the_launcher_draws_the_same_line(key, taken, refused):
    """On a laptop no Helm looks first."""
    for value in taken:
        values = launcher_part(with_value(key, value))
        Settings.parse(values, "x")
    for value in refused:
        values = launcher_part(with_value(key, value))
        with pytest.raises(UsageError):
            Settings.parse(values, "x")


KEYWORDS = {
    "enum",
    "exclusiveMinimum",
    "if",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "patternProperties",
}


def bounded(schema: dict[str, Any], node: dict[str, Any], key: str) -> Iterator[str]:
    """Yield the keys of a values file that the schema bounds; `*` stands for any key of a map.

    What is Kubernetes' own has no bounds, and the pods of all kinds have the same ones.
    """
    name = node.get("$ref", "").removeprefix("#/$defs/")
    if name.startswith("io.k8s.") or (name == "OwnPod" and key != "executors.*.pod"):
        return
    if name:
        node = schema["$defs"][name]
    properties = {
        name: below for name, below in node.get("properties", {}).items() if is_key(below)
    }
    if not properties and node.keys() & KEYWORDS:
        yield key
    for name, below in properties.items():
        yield from bounded(schema, below, f"{key}.{name}".lstrip("."))
    for below in node.get("patternProperties", {}).values():
        if is_key(below):
            yield from bounded(schema, below, f"{key}.*")
    for keyword, step in (("items", ""), ("additionalProperties", ".*")):
        if isinstance(node.get(keyword), dict) and name != "AnyValue":
            yield from bounded(schema, node[keyword], f"{key}{step}")


def is_key(node: Any) -> bool:
    """Whether the schema of a key takes more than the words with which it refuses it."""
    return isinstance(node, dict) and node.keys() != {"const"}


def as_pattern(key: str) -> str:
    """A row's key, with `*` for the label of an executor, the key of a volume, a resource."""
    key = re.sub(r"^(storage|executors|apps)\.[^.]+", r"\1.*", key)
    return re.sub(r"\.(limits|requests)\.[^.]+$", r".\1.*", key)


# Tried in the list, or in the other place that has the same type.
ELSEWHERE = {
    "executors.*.pod.image": "pod.image",
    "executors.*.pod.sharedMemory": "pod.sharedMemory",
    "imagePullSecrets.name": "imagePullSecrets",
    "launcher.resources.requests.*": "launcher.resources.limits.*",
}


@pytest.mark.parametrize(
    ("schema", "rows"),
    [(values_schema(), BOUNDS), (Settings.model_json_schema(), LAUNCHERS)],
    ids=["chart", "launcher"],
)
def test_every_bound_has_a_row(schema, rows):
    tried = {as_pattern(key) for key, _, _ in rows}
    keys = set(bounded(schema, schema, ""))
    assert len(keys) > 20
    assert {ELSEWHERE.get(key, key) for key in keys} - tried == set()


KEY_JOB: dict[str, Any] = {
    "vault": {"url": "https://v", "auth": {"role": "r"}, "kv": {"mount": "m", "path": "p"}},
    "secret": {"name": "n", "namespace": "s", "owner": "o"},
}
# (path of the section, key, values that are refused)
OF_THE_KEY_JOB = [
    (["secret"], "name", [""]),
    (["secret"], "namespace", [""]),
    (["vault", "kv"], "userIDKey", [""]),
    (["vault", "kv"], "userKeyKey", [""]),
    (["vault", "kv"], "mount", ["", "a/"]),
    (["vault", "auth"], "role", [""]),
    (["vault"], "timeout", [0]),
    (["vault"], "url", ["v", "http://v", "https://a@v", "https://v#a"]),
    ([], "timeBudget", [0]),
]


@pytest.mark.parametrize(("section", "key", "refused"), OF_THE_KEY_JOB)
def test_the_key_job_draws_the_same_line(section, key, refused):
    """It reads a ConfigMap, which a user may have changed."""
    CephKeySettings.parse(KEY_JOB, "x")
    for value in refused:
        values = copy.deepcopy(KEY_JOB)
        node = values
        for name in section:
            node = node[name]
        node[key] = value
        with pytest.raises(UsageError):
            CephKeySettings.parse(values, "x")
