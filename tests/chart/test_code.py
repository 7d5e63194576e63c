"""How the workflow's code comes into launcher and workers: files of a ConfigMap, or a commit of a git repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runtime.expansion import HOSTILE, expanded

from chart.helm import MINIMAL, VALUES, Object, Rendered, container
from k8s_parsl.__main__ import commands
from k8s_parsl.kube import reasons
from k8s_parsl.run import checkout
from k8s_parsl_runtime.shared.errors import ExitCode

EVERY_KEY = VALUES / "every-key.yaml"
GIT = {"url": "https://example.org/a/b.git", "commit": "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"}
PRIVATE = GIT | {"path": "flows", "secret": "pdg-git"}


def values(**workflow: Any) -> dict[str, Any]:
    return MINIMAL | {"workflow": {"call": "flow:main", "path": "/code"} | workflow}


def pods(rendered: Rendered) -> list[Object]:
    """That of the launcher, of `helm test` and of each executor's workers."""
    return [rendered.launcher["spec"], rendered.one("Pod")["spec"], *(pod["spec"] for pod in rendered.workers.values())]


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
        assert mount == {"name": "workflow", "mountPath": "/code", "subPath": "..data", "readOnly": True}
        assert "initContainers" not in spec


def test_code_from_git_is_there_before_launcher_and_workers_start(helm):
    """In a folder that only the init container may write; by a command that k8s-parsl takes; made as the launcher's
    container is, in every pod.
    """
    theirs = {"name": "fetch", "image": "fetch:1"}
    rendered = helm.template(over=values(git=PRIVATE) | {"pod": {"initContainers": [theirs]}})
    for spec in pods(rendered):
        main, (first, second) = spec["containers"][0], spec["initContainers"]
        assert (first["name"], second) == (reasons.CHECKOUT, theirs)
        assert named("workflow", spec["volumes"])["emptyDir"] == {"sizeLimit": "1Gi"}
        mount = named("workflow", main["volumeMounts"])
        assert mount == {"name": "workflow", "mountPath": "/code", "readOnly": True}
        name, *words = first["args"]
        command = commands.commands[name]
        folder = named("workflow", first["volumeMounts"])["mountPath"]
        assert command.make_context(name, words).params == PRIVATE | {"folder": Path(folder)}
        alike = ("image", "imagePullPolicy", "securityContext", "resources", "terminationMessagePolicy")
        launcher = container(rendered.launcher, "launcher")
        assert {key: first[key] for key in alike} == {key: launcher[key] for key in alike}


def test_a_later_file_takes_git_away(each_helm):
    """With null, as it takes an executor or a volume."""
    network = {"networkPolicy": {"restrictEgress": True}}
    taken = each_helm.template(over=values(git=None) | network)
    for spec in pods(taken):
        assert "initContainers" not in spec
        assert "workflow" not in [volume["name"] for volume in spec["volumes"]]


def test_what_pods_are_told_the_init_container_is_told(helm):
    """A proxy in the environment, an authority's certificate on a volume. Not what is meant for the user's Python, nor
    the user's image: the init container runs our own.
    """
    pod = {
        "image": "other:1",
        "env": [
            {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
            {"name": "PYTHONPATH", "value": "/mine"},
            {"name": "PYTHONHOME", "value": "/mine"},
        ],
        "envFrom": [{"configMapRef": {"name": "proxies"}}],
        "volumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "volumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    }
    for spec in pods(helm.template(over=values(git=GIT) | {"pod": pod})):
        first = named(reasons.CHECKOUT, spec["initContainers"])
        assert first["image"] == "k8s-parsl:0.1.0"
        assert first["env"] == [{"name": "HOME", "value": "/tmp"}, pod["env"][0]]
        assert first["envFrom"] == pod["envFrom"]
        assert pod["volumeMounts"][0] in first["volumeMounts"]


def test_only_the_init_container_has_the_credentials(helm):
    for spec in pods(helm.template(over=values(git=PRIVATE))):
        given = {item["name"]: item.get("valueFrom") for item in spec["initContainers"][0]["env"]}
        username = {"name": "pdg-git", "key": "username", "optional": True}
        assert given[checkout.USERNAME] == {"secretKeyRef": username}
        assert given[checkout.PASSWORD] == {"secretKeyRef": {"name": "pdg-git", "key": "password"}}
        assert "pdg-git" not in str(spec | {"initContainers": []})
    assert checkout.PASSWORD not in helm.template(over=values(git=GIT)).text


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
        "onExitCodes": {"containerName": reasons.CHECKOUT, "operator": "In", "values": [int(code) for code in final]},
    }
    assert reasons.CHECKOUT not in str(rules(values()))


@pytest.mark.parametrize(
    ("url", "port"),
    [("https://example.org/a", 443), ("http://example.org/a", 80), ("https://example.org:8/a", 8)],
)
def test_with_egress_restricted_the_git_server_is_reached(helm, url, port):
    """By the port, as a policy knows no names; from launcher and workers."""

    def egress(over):
        rendered = helm.template(over=over | {"networkPolicy": {"restrictEgress": True}})
        policy = rendered.one("NetworkPolicy", "pdgrun-pods")["spec"]
        labels = rendered.launcher["metadata"]["labels"], rendered.workers["workers"]["metadata"]["labels"]
        assert all(policy["podSelector"]["matchLabels"].items() <= pod.items() for pod in labels)
        return policy["egress"]

    assert egress(values(git=GIT | {"url": url})) == [*egress(values()), {"ports": [{"port": port}]}]


def test_the_admission_policy_takes_workers_with_code_from_git(helm):
    """The Secret is one of those that the launcher may name in a pod; an emptyDir is everybody's."""
    on = {"admissionPolicy": {"create": True}}
    policy = helm.template(over=values(git=PRIVATE) | on).one(
        "ValidatingAdmissionPolicy", "pdgrun-pdgrun-launcher-pods-"
    )
    variables = {item["name"]: item["expression"] for item in policy["spec"]["variables"]}
    assert '"pdg-git"' in variables["secrets"]
    assert "initContainers" in variables["containers"]


@pytest.mark.parametrize("text", HOSTILE)
def test_kubelet_hands_on_what_the_values_say_as_it_was(helm, text):
    """Into a command, an argument or a variable of ours; what is a PodSpec's keeps Kubernetes' own meaning."""
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
        words = [expanded(word) for word in named(reasons.CHECKOUT, pod["initContainers"])["args"]]
        assert {f"--url={given['url']}", f"--path={given['path']}"} <= set(words)
