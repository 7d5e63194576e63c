"""The workflow's code in launcher and workers: files of a ConfigMap, or a commit from git."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runtime.expansion import HOSTILE, expanded

from chart.helm import MINIMAL, VALUES, Object, Rendered, container
from k8s_parsl.__main__ import commands
from k8s_parsl.kube import pod_state
from k8s_parsl.run import git_client
from k8s_parsl_runtime.shared.errors import ExitCode

EVERY_KEY = VALUES / "every-key.yaml"
GIT = {"url": "https://example.org/a/b.git", "commit": "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"}
PRIVATE = GIT | {"path": "flows", "secret": "pdg-git"}


def values(**workflow: Any) -> dict[str, Any]:
    return MINIMAL | {"workflow": {"call": "flow:main", "path": "/code"} | workflow}


def pods(rendered: Rendered) -> list[Object]:
    """That of the launcher, of `helm test` and of each executor's workers."""
    return [
        rendered.launcher["spec"],
        rendered.one("Pod")["spec"],
        *(pod["spec"] for pod in rendered.workers.values()),
    ]


def named(name: str, items: list[Object]) -> Object:
    (found,) = [item for item in items if item["name"] == name]
    return found


def test_files_are_where_launcher_and_workers_look_for_code(helm):
    rendered = helm.template(over=values(files={"flow.py": "x"}))
    made = rendered.one("ConfigMap", "pdgrun-workflow-")
    assert made["data"] == {"flow.py": "x"}
    for spec in pods(rendered):
        assert named("workflow", spec["volumes"])["configMap"] == {"name": made["metadata"]["name"]}
        mount = named("workflow", spec["containers"][0]["volumeMounts"])
        # No links: `Path(__file__).resolve()` has to be the same in every pod.
        assert mount == {
            "name": "workflow",
            "mountPath": "/code",
            "subPath": "..data",
            "readOnly": True,
        }
        assert "initContainers" not in spec


def test_code_from_git_is_there_before_launcher_and_workers_start(helm):
    """Only the init container may write the folder; its arguments are those of `checkout`.

    It is like the launcher's container, in every pod.
    """
    theirs = {"name": "fetch", "image": "fetch:1"}
    rendered = helm.template(over=values(git=PRIVATE) | {"pod": {"initContainers": [theirs]}})
    for spec in pods(rendered):
        main, (first, second) = spec["containers"][0], spec["initContainers"]
        assert (first["name"], second) == (pod_state.CHECKOUT, theirs)
        assert named("workflow", spec["volumes"])["emptyDir"] == {"sizeLimit": "1Gi"}
        mount = named("workflow", main["volumeMounts"])
        assert mount == {"name": "workflow", "mountPath": "/code", "readOnly": True}
        name, *words = first["args"]
        command = commands.commands[name]
        folder = named("workflow", first["volumeMounts"])["mountPath"]
        assert command.make_context(name, words).params == PRIVATE | {"folder": Path(folder)}
        same = (
            "image",
            "imagePullPolicy",
            "securityContext",
            "resources",
            "terminationMessagePolicy",
        )
        launcher = container(rendered.launcher, "launcher")
        assert {key: first[key] for key in same} == {key: launcher[key] for key in same}


def test_a_later_file_takes_git_away(each_helm):
    """With null, as it takes an executor or a volume."""
    network = {"networkPolicy": {"restrictEgress": True}}
    taken = each_helm.template(over=values(git=None) | network)
    for spec in pods(taken):
        assert "initContainers" not in spec
        assert "workflow" not in [volume["name"] for volume in spec["volumes"]]


# Volumes on which no pod can write.
FIXED = {
    "a ConfigMap": {"configMap": {"name": "ca"}},
    "a Secret": {"secret": {"secretName": "ca"}},
    "several of them": {"projected": {"sources": [{"configMap": {"name": "ca"}}]}},
    "an image": {"image": {"reference": "ca:1"}},
}
WRITABLE = {
    "a claim": {"persistentVolumeClaim": {"claimName": "mine"}},
    "an empty folder": {"emptyDir": {}},
    "the node": {"hostPath": {"path": "/etc/ssl"}},
    "a file server": {"nfs": {"server": "n", "path": "/"}},
}
PROXIES = [
    {"name": "HTTPS_PROXY", "value": "http://$(PROXY_USER):$(PROXY_PASSWORD)@proxy:3128"},
    {"name": "http_proxy", "valueFrom": {"configMapKeyRef": {"name": "proxies", "key": "http"}}},
    {"name": "no_proxy", "value": ".example.org"},
]
OF_PROXIES = [
    {"name": "PROXY_USER", "value": "ada"},
    {"name": "PROXY_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "password"}}},
]


@pytest.mark.parametrize("kind", FIXED)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSL_CERT_FILE", "/mnt/ca/ca.crt"),
        ("SSL_CERT_DIR", "/mnt/ca"),
        ("SSL_CERT_DIR", "/mnt/ca/a"),
    ],
)
def test_checkout_gets_what_the_way_to_the_server_needs(helm, kind, name, value):
    """A proxy, and a CA certificate, read-only; in our image, for any image of the user's."""
    authority = {"name": name, "value": value}
    pod = {
        "image": "other:1",
        "env": [*OF_PROXIES, *PROXIES, authority],
        "volumes": [{"name": "ca"} | FIXED[kind], {"name": "more", "configMap": {"name": "more"}}],
        "volumeMounts": [
            {"name": "ca", "mountPath": "/mnt/ca"},
            {"name": "more", "mountPath": "/mnt/more"},
        ],
    }
    for spec in pods(helm.template(over=values(git=GIT) | {"pod": pod})):
        first = named(pod_state.CHECKOUT, spec["initContainers"])
        assert first["image"] == "k8s-parsl:0.1.0"
        assert first["env"] == [{"name": "HOME", "value": "/tmp"}, *pod["env"]]
        assert first["volumeMounts"][2:] == [
            {"name": "ca", "mountPath": "/mnt/ca", "readOnly": True}
        ]


NOT_OURS = [
    "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "OPENSSL_CONF",
    "OPENSSL_MODULES", "PATH", "HOME", "GCONV_PATH", "K8S_PARSL_GIT_PASSWORD", "MINE",
]  # fmt: skip


@pytest.mark.parametrize("name", NOT_OURS)
def test_no_variable_leads_a_container_with_a_secret_to_what_workers_write(helm, name):
    """Nor one by envFrom; and none of the volumes is there."""
    claim = {"name": "conda", "persistentVolumeClaim": {"claimName": "conda"}}
    pod = {
        "env": [{"name": name, "value": "/mnt/conda/lib"}],
        "envFrom": [{"configMapRef": {"name": "mine"}}, {"secretRef": {"name": "mine"}}],
        "volumes": [claim, {"name": "ca", "configMap": {"name": "ca"}}],
        "volumeMounts": [
            {"name": "conda", "mountPath": "/mnt/conda"},
            {"name": "ca", "mountPath": "/mnt/ca"},
        ],
    }
    over = {
        "pod": pod,
        "image": {"repository": "other", "runtime": "inject"},
        "launcher": {"runtimeVolume": "copy"},
    }
    rendered = helm.template(EVERY_KEY, over=values(git=PRIVATE) | over)
    jobs = [job["spec"]["template"]["spec"] for job in rendered.of("ceph-key", "Job")]
    found = [
        one
        for spec in (*pods(rendered), *jobs)
        for one in spec.get("initContainers", []) + spec["containers"]
    ]
    ours = [
        one
        for one in found
        if one["name"] in (pod_state.CHECKOUT, "runtime", "launcher", "ceph-key")
    ]
    assert {one["name"] for one in ours} == {pod_state.CHECKOUT, "runtime", "launcher", "ceph-key"}
    for one in ours:
        assert pod["env"][0] not in one.get("env", [])
        assert "envFrom" not in one
        assert {"conda", "ca"}.isdisjoint(mount["name"] for mount in one["volumeMounts"])


@pytest.mark.parametrize("kind", WRITABLE)
def test_certificates_from_where_a_pod_may_write_are_refused(helm, kind):
    """With them a worker could make another server the git server."""
    pod = {
        "env": [{"name": "SSL_CERT_FILE", "value": "/mnt/x/ca.crt"}],
        "volumes": [
            {"name": "ca"} | WRITABLE[kind],
            {"name": "above", "configMap": {"name": "above"}},
        ],
        "volumeMounts": [
            {"name": "above", "mountPath": "/mnt"},
            {"name": "ca", "mountPath": "/mnt/x"},
        ],
    }
    said = "pod.env: SSL_CERT_FILE (/mnt/x/ca.crt) is on volume ca, on which a pod may write"
    assert said in helm.refusal(values(git=GIT) | {"pod": pod})
    assert helm.refusal(values() | {"pod": pod}) == ""


@pytest.mark.parametrize("path", ["/data/certs", "/data"])
def test_certificates_from_storage_are_refused(helm, path):
    over = {"pod": {"env": [{"name": "SSL_CERT_DIR", "value": path}]}}
    over["storage"] = {"data": {"mountPath": "/data", "existingClaim": "data"}}
    said = f"SSL_CERT_DIR ({path}) is on volume storage-data"
    assert said in helm.refusal(values(git=GIT) | over)


def test_only_the_init_container_has_the_credentials(helm):
    for spec in pods(helm.template(over=values(git=PRIVATE))):
        given = {item["name"]: item.get("valueFrom") for item in spec["initContainers"][0]["env"]}
        username = {"name": "pdg-git", "key": "username", "optional": True}
        assert given[git_client.USERNAME] == {"secretKeyRef": username}
        assert given[git_client.PASSWORD] == {
            "secretKeyRef": {"name": "pdg-git", "key": "password"}
        }
        assert "pdg-git" not in str(spec | {"initContainers": []})
    assert git_client.PASSWORD not in helm.template(over=values(git=GIT)).text


def test_the_ceph_keys_job_fetches_no_code(helm):
    """It is in another namespace, and has nothing to do with the workflow."""
    (job, *_) = helm.template(EVERY_KEY).of("ceph-key", "Job")
    assert "initContainers" not in job["spec"]["template"]["spec"]


def test_the_job_ends_at_once_where_the_code_cannot_be_had(helm):
    """As for the launcher's own exit codes; one rule names one container, which has to be there."""

    def rules(over):
        return helm.template(over=over).job["spec"]["podFailurePolicy"]["rules"]

    final = [ExitCode.USAGE, ExitCode.PERMISSION, ExitCode.CONFIGURATION]
    assert rules(values(git=GIT))[1] == {
        "action": "FailJob",
        "onExitCodes": {
            "containerName": pod_state.CHECKOUT,
            "operator": "In",
            "values": [int(code) for code in final],
        },
    }
    assert pod_state.CHECKOUT not in str(rules(values()))


@pytest.mark.parametrize(
    ("url", "port"),
    [("https://example.org/a", 443), ("http://example.org/a", 80), ("https://example.org:8/a", 8)],
)
def test_with_egress_restricted_the_git_server_is_reached(helm, url, port):
    """By the port, as a policy knows no names; from launcher and workers."""

    def egress(over):
        rendered = helm.template(over=over | {"networkPolicy": {"restrictEgress": True}})
        policy = rendered.one("NetworkPolicy", "pdgrun-pods")["spec"]
        labels = (
            rendered.launcher["metadata"]["labels"],
            rendered.workers["workers"]["metadata"]["labels"],
        )
        assert all(policy["podSelector"]["matchLabels"].items() <= pod.items() for pod in labels)
        return policy["egress"]

    assert egress(values(git=GIT | {"url": url})) == [
        *egress(values()),
        {"ports": [{"port": port}]},
    ]


def test_the_admission_policy_takes_workers_with_code_from_git(helm):
    """The Secret is one of those that the launcher may name in a pod; every pod may have an emptyDir."""
    on = {"admissionPolicy": {"create": True}}
    policy = helm.template(over=values(git=PRIVATE) | on).one(
        "ValidatingAdmissionPolicy", "pdgrun-pdgrun-launcher-pods-"
    )
    variables = {item["name"]: item["expression"] for item in policy["spec"]["variables"]}
    assert '"pdg-git"' in variables["secrets"]
    assert "initContainers" in variables["containers"]


@pytest.mark.parametrize("text", HOSTILE)
def test_kubelet_hands_on_what_the_values_say_as_it_was(helm, text):
    """In our commands, arguments and variables; a PodSpec field keeps Kubernetes' own meaning."""
    text = text.replace(" ", "_")
    given = GIT | {"path": f"a{text}", "url": f"https://h/{text}.git"}
    path = f"/opt/{text}"
    over = {"image": {"python": f"/py{text}"}, "pod": {"env": [{"name": "MINE", "value": text}]}}
    for pod in pods(helm.template(over=values(git=given, path=path) | over)):
        user = pod["containers"][0]
        assert expanded(user["command"][0]) == f"/py{text}"
        plain = {item["name"]: item.get("value") for item in user["env"]}
        assert expanded(plain["PYTHONPATH"]) == path
        assert plain["MINE"] == text
        words = [
            expanded(word) for word in named(pod_state.CHECKOUT, pod["initContainers"])["args"]
        ]
        assert {f"--url={given['url']}", f"--path={given['path']}"} <= set(words)
