"""The launcher's pod runs two programs, `workflow` and `launcher`.

The first has the user's code and no permissions, the second the permissions and no user code.

Where the user's image was not built FROM k8s-parsl's own, the runtime is brought into it.
"""

from __future__ import annotations

from typing import Any

import pytest

from chart.helm import MINIMAL, VALUES, Object, Rendered, container

EVERY_KEY = VALUES / "every-key.yaml"
OURS = "k8s-parsl:0.1.0"
GIT = {"url": "https://example.org/a/b.git", "commit": "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"}
STORAGE = {
    "data": {"mountPath": "/data", "existingClaim": "c", "subPath": "users/pdg"},
    "inputs": {"mountPath": "/inputs", "existingClaim": "d", "readOnly": True},
}


def values(**over: Any) -> dict[str, Any]:
    return MINIMAL | over


def of_the_launcher(rendered: Rendered) -> list[Object]:
    """The Job's pod, and that of `helm test`."""
    return [rendered.launcher, rendered.one("Pod")]


def names(items: list[Object]) -> list[str]:
    return [item["name"] for item in items]


def mounts(pod: Object, name: str) -> dict[str, Object]:
    """By volume, without its name."""
    found = container(pod, name)["volumeMounts"]
    return {
        mount["name"]: {key: value for key, value in mount.items() if key != "name"}
        for mount in found
    }


def environment(pod: Object, name: str) -> dict[str, Any]:
    return {
        item["name"]: item.get("value", item.get("valueFrom"))
        for item in container(pod, name).get("env", [])
    }


# The pod -------------------------------------------------------------------------------------------------------------


def test_the_order_of_the_containers(helm):
    """kubelet starts them in order: the workflow, the slowest, first; the user's sidecars last."""
    pod = {
        "initContainers": [{"name": "wait", "image": "b:1"}],
        "containers": [{"name": "agent", "image": "b:1"}],
    }
    image = {"repository": "mine", "tag": "1"}
    rendered = helm.template(
        over=values(image=image, pod=pod, workflow=MINIMAL["workflow"] | {"git": GIT})
    )
    for launchers in of_the_launcher(rendered):
        assert names(launchers["spec"]["initContainers"]) == ["runtime", "checkout", "wait"]
        assert names(launchers["spec"]["containers"]) == ["workflow", "launcher", "agent"]
    for worker in rendered.workers.values():
        assert names(worker["spec"]["initContainers"]) == ["runtime", "checkout", "wait"]
        assert names(worker["spec"]["containers"]) == ["worker", "agent"]


def test_what_runs_in_each(helm):
    """The user's Python starts ours in the user's containers, by its own path.

    Our image knows its command.
    """
    start = ["/opt/conda/bin/python3", "-I", "/opt/k8s-parsl-runtime/start.py"]
    rendered = helm.template(EVERY_KEY)
    for pod in of_the_launcher(rendered):
        workflow, launcher = container(pod, "workflow"), container(pod, "launcher")
        assert workflow["command"] == [
            *start,
            "workflow",
            "--socket",
            "/run/k8s-parsl-launcher/socket",
        ]
        assert "args" not in workflow
        assert launcher["args"] == ["run"]
        assert "command" not in launcher
    for pod in rendered.workers.values():
        worker = container(pod, "worker")
        assert (worker["command"], worker["args"]) == (start, ["worker"])
    assert container(helm.template(over=MINIMAL).launcher, "workflow")["command"][0] == "python3"


def test_kubectl_shows_the_launcher_unless_another_is_named(helm):
    """Whose container is not the pod's first; what the user says of it wins, null included."""
    key = "kubectl.kubernetes.io/default-container"

    def default(**over: Any) -> set[str]:
        rendered = helm.template(over=values(**over))
        assert all(
            key not in pod["metadata"].get("annotations", {}) for pod in rendered.workers.values()
        )
        return {pod["metadata"]["annotations"].get(key) for pod in of_the_launcher(rendered)}

    assert default() == {"launcher"}
    assert default(launcher={"pod": {"annotations": {"a": "b"}}}) == {"launcher"}
    assert default(launcher={"pod": {"annotations": {key: "workflow"}}}) == {"workflow"}
    assert default(launcher={"pod": {"annotations": {key: None}}}) == {None}


# Rights --------------------------------------------------------------------------------------------------------------


def test_token_and_settings_are_in_the_launchers_container_alone(helm, values_file):
    rendered = helm.template(values_file)
    for pod in of_the_launcher(rendered):
        spec = pod["spec"]
        for volume, folder in (
            ("kubernetes-api", "/var/run/secrets/kubernetes.io/serviceaccount"),
            ("settings", "/etc/k8s-parsl"),
        ):
            assert volume in names(spec["volumes"])
            everyone = spec["containers"] + spec.get("initContainers", [])
            holders = [one["name"] for one in everyone if volume in mounts(pod, one["name"])]
            assert holders == ["launcher"]
            assert mounts(pod, "launcher")[volume] == {"mountPath": folder, "readOnly": True}
    for pod in rendered.workers.values():
        assert {"kubernetes-api", "settings"}.isdisjoint(names(pod["spec"]["volumes"]))


def test_nothing_of_the_users_containers_reaches_the_launchers(helm):
    """Nor variables that change how Python starts, nor Secrets, nor code.

    This holds for `pod` and for `launcher.pod`.
    """
    field = {
        "image": "mine:1",
        "env": [
            {"name": "PYTHONPATH", "value": "/mine"},
            {"name": "LD_PRELOAD", "value": "/mine/a.so"},
        ],
        "envFrom": [{"secretRef": {"name": "tokens"}}],
        "volumes": [{"name": "mine", "emptyDir": {}}],
        "volumeMounts": [{"name": "mine", "mountPath": "/mine"}],
    }
    plain = helm.template(over=MINIMAL)
    for over in (
        {"pod": field},
        {"launcher": {"pod": field | {"resources": {"limits": {"cpu": 7}}}}},
    ):
        rendered = helm.template(over=values(**over))
        for pod, as_before in zip(of_the_launcher(rendered), of_the_launcher(plain), strict=True):
            assert container(pod, "launcher") == container(as_before, "launcher")
            assert container(pod, "workflow")["envFrom"] == field["envFrom"]
            assert (
                environment(pod, "workflow").items()
                >= {"PYTHONPATH": "/mine", "LD_PRELOAD": "/mine/a.so"}.items()
            )
            assert mounts(pod, "workflow")["mine"] == {"mountPath": "/mine"}


def test_the_launcher_is_as_hardened_as_pod_says(helm):
    """Values for the user's container do not loosen it."""
    default = container(helm.template(over=MINIMAL).launcher, "launcher")["securityContext"]
    assert default == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    loose = {"containerSecurityContext": {"readOnlyRootFilesystem": False}}
    git, image = MINIMAL["workflow"] | {"git": GIT}, {"repository": "mine", "tag": "1"}

    def own(**over: Any) -> list[Object]:
        rendered = helm.template(over=values(workflow=git, image=image, **over))
        pods = [*of_the_launcher(rendered), *rendered.workers.values()]
        found = [container(pod, name) for pod in pods for name in ("runtime", "checkout")]
        found += [container(pod, "launcher") for pod in of_the_launcher(rendered)]
        return [one["securityContext"] for one in found]

    for over in ({}, {"launcher": {"pod": loose}, "worker": {"pod": loose}}):
        assert [one for one in own(**over) if one != default] == []
    assert [
        one for one in own(pod=loose) if one != default | {"readOnlyRootFilesystem": False}
    ] == []


def test_the_workflow_has_no_variables_of_the_run(helm):
    """No name of a pod, Secret or release: what it may know comes over the socket."""
    for pod in of_the_launcher(helm.template(over=MINIMAL)):
        env = environment(pod, "workflow")
        assert env == {"HOME": "/tmp", "PYTHONPATH": "/opt/workflow", "PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize("name", ["HOME", "PYTHONPATH", "PYTHONUNBUFFERED"])
def test_a_variable_that_is_given_is_there_once(helm, name):
    rendered = helm.template(over=values(pod={"env": [{"name": name, "value": "mine"}]}))
    pods = [(pod, "workflow") for pod in of_the_launcher(rendered)]
    pods += [(pod, "worker") for pod in rendered.workers.values()]
    for pod, user in pods:
        found = [item for item in container(pod, user)["env"] if item["name"] == name]
        assert found == [{"name": name, "value": "mine"}]


def test_the_launcher_has_its_own_variables_and_resources(helm):
    """And the init containers of our image its size.

    Those of the workflow's container are launcher.pod's.
    """
    env = [
        {"name": "HTTPS_PROXY", "value": "http://proxy"},
        {"name": "HOME", "value": "/elsewhere"},
    ]
    size = {
        "requests": {"cpu": "200m", "memory": "1Gi"},
        "limits": {"cpu": None, "memory": "2Gi", "ephemeral-storage": "1Gi"},
    }
    launcher = {"env": env, "resources": size, "pod": {"resources": {"limits": {"cpu": "7"}}}}
    image = {"repository": "mine", "tag": "1"}
    rendered = helm.template(over=values(launcher=launcher, image=image))
    expected = {
        "requests": size["requests"],
        "limits": {"memory": "2Gi", "ephemeral-storage": "1Gi"},
    }
    for pod in of_the_launcher(rendered):
        own = container(pod, "launcher")
        assert own["resources"] == container(pod, "runtime")["resources"] == expected
        assert container(pod, "workflow")["resources"]["limits"] == {"cpu": "7", "memory": "2Gi"}
        assert own["env"][-2:] == env
        assert len(names(own["env"])) == len(set(names(own["env"])))
        assert environment(pod, "workflow")["HOME"] == "/tmp"
        assert "HTTPS_PROXY" not in environment(pod, "workflow")
    default = container(helm.template(over=MINIMAL).launcher, "launcher")
    assert default["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "1", "memory": "512Mi"},
    }
    assert [item for item in default["env"] if not item["name"].startswith("K8S_PARSL_")] == [
        {"name": "HOME", "value": "/tmp"}
    ]


# What they share -----------------------------------------------------------------------------------------------------


def test_they_share_a_socket_and_no_scratch(helm):
    """In memory; only the launcher may make it, and each container has its own /tmp."""
    for pod in of_the_launcher(helm.template(over=MINIMAL)):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert volumes["socket"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Mi"}
        assert volumes["launcher-tmp"]["emptyDir"] == {}
        assert mounts(pod, "launcher")["socket"] == {"mountPath": "/run/k8s-parsl-launcher"}
        assert mounts(pod, "workflow")["socket"] == {
            "mountPath": "/run/k8s-parsl-launcher",
            "readOnly": True,
        }
        assert mounts(pod, "launcher")["launcher-tmp"] == {"mountPath": "/tmp"}
        assert mounts(pod, "workflow")["tmp"] == {"mountPath": "/tmp"}
        assert mounts(pod, "launcher").keys() & mounts(pod, "workflow").keys() == {"socket"}


def test_no_other_container_mounts_what_is_the_launchers_own(helm):
    """That is: all that the launcher mounts, except the volumes of `storage`."""
    pod = helm.template(over=values(storage=STORAGE, run={"volume": "data"})).launcher
    own = [name for name in mounts(pod, "launcher") if not name.startswith("storage-")]
    assert len(own) == 4
    for name in own:
        mount = [{"name": name, "mountPath": "/x"}]
        beside = [{"name": "mine", "image": "a:1", "volumeMounts": mount}]
        for key, field in (
            ("volumeMounts", mount),
            ("containers", beside),
            ("initContainers", beside),
        ):
            said = f"launcher.pod.{key}: {name} is the launcher's own volume"
            assert said in helm.refusal(values(launcher={"pod": {key: field}}))
            assert said in helm.refusal(values(pod={key: field}))
    for name in ("tmp", "storage-data"):
        pod = {"volumeMounts": [{"name": name, "mountPath": "/var/tmp"}]}
        assert helm.refusal(values(pod=pod, storage=STORAGE)) == ""


CODE = {"workflow": MINIMAL["workflow"] | {"git": GIT}}


def test_a_volume_by_a_name_that_the_pod_has_is_refused(helm):
    """Kubernetes refuses such a pod, once it is made."""
    over = (
        values(
            storage=STORAGE, image={"repository": "mine", "tag": "1"}, pod={"sharedMemory": "1Gi"}
        )
        | CODE
    )
    rendered = helm.template(over=over)
    for key, pod, below in (
        ("launcher.pod", rendered.launcher, lambda pod: {"launcher": {"pod": pod}}),
        (
            "executors.workers.pod",
            rendered.workers["workers"],
            lambda pod: {"executors": {"workers": {"pod": pod}}},
        ),
        (
            "executors.workers.pod",
            rendered.workers["workers"],
            lambda pod: {"worker": {"pod": pod}},
        ),
    ):
        taken = names(pod["spec"]["volumes"])
        assert {"tmp", "run", "workflow", "runtime", "shared-memory", "storage-data"} < set(taken)
        for name in taken:
            given = below({"volumes": [{"name": name, "emptyDir": {}}]})
            assert f"{key}.volumes: the pod has a volume {name} already" in helm.refusal(
                over | given
            )
        twice = [{"name": "mine", "emptyDir": {}}, {"name": "mine", "emptyDir": {}}]
        assert f"{key}.volumes: the pod has a volume mine already" in helm.refusal(
            over | below({"volumes": twice})
        )
        assert helm.refusal(over | below({"volumes": twice[:1]})) == ""


def test_of_the_volumes_the_launcher_mounts_that_of_the_runs_alone(helm):
    """At the path at which the workflow has it, so that a path in the record is one path.

    Without one, none.
    """
    rendered = helm.template(over=values(storage=STORAGE, run={"volume": "data"}))
    for pod in of_the_launcher(rendered):
        own, users = mounts(pod, "launcher"), mounts(pod, "workflow")
        assert [name for name in own if name.startswith("storage-")] == ["storage-data"]
        assert (
            own["storage-data"]
            == users["storage-data"]
            == {"mountPath": "/data", "subPath": "users/pdg"}
        )
        assert users["storage-inputs"] == {"mountPath": "/inputs", "readOnly": True}
        assert "workflow" not in own
    for pod in of_the_launcher(helm.template(over=values(storage=STORAGE))):
        assert [name for name in mounts(pod, "launcher") if name.startswith("storage-")] == []


UID, GRACE = "K8S_PARSL_WORKFLOW_UID", "K8S_PARSL_GRACE"
NO_USER = {"securityContext": {"runAsUser": None}}


@pytest.mark.parametrize(
    ("over", "uid"),
    [
        ({}, "10001"),
        ({"pod": {"securityContext": {"runAsUser": 1000650000}}}, "1000650000"),
        ({"launcher": {"pod": {"securityContext": {"runAsUser": 20001}}}}, "20001"),
        ({"pod": {"containerSecurityContext": {"runAsUser": 20002}}}, "20002"),
        ({"launcher": {"pod": {"containerSecurityContext": {"runAsUser": 20003}}}}, "20003"),
        ({"launcher": {"pod": {"containerSecurityContext": {"runAsUser": 0}}}}, "0"),
        ({"pod": NO_USER | {"containerSecurityContext": {"runAsUser": 20004}}}, "20004"),
        ({"worker": {"pod": {"containerSecurityContext": {"runAsUser": 20005}}}}, "10001"),
        ({"pod": NO_USER}, ""),
        ({"pod": {"securityContext": None, "containerSecurityContext": None}}, ""),
    ],
)
def test_the_launcher_has_the_workflows_uid(each_helm, over, uid):
    """Its container's user, or else the pod's; empty where the image says it."""
    for pod in of_the_launcher(each_helm.template(over=values(**over))):
        assert environment(pod, "launcher")[UID] == uid


@pytest.mark.parametrize(
    ("over", "grace"),
    [
        ({}, "60"),
        ({"pod": {"terminationGracePeriodSeconds": 45}}, "45"),
        ({"launcher": {"pod": {"terminationGracePeriodSeconds": 1000000}}}, "1000000"),
        ({"launcher": {"pod": {"terminationGracePeriodSeconds": 0}}}, "0"),
        ({"worker": {"pod": {"terminationGracePeriodSeconds": 7}}}, "60"),
        # Kubernetes' own.
        ({"launcher": {"pod": {"terminationGracePeriodSeconds": None}}}, "30"),
    ],
)
def test_the_launcher_has_its_grace_period(each_helm, over, grace):
    for pod in of_the_launcher(each_helm.template(over=values(**over))):
        assert environment(pod, "launcher")[GRACE] == grace
        assert str(pod["spec"].get("terminationGracePeriodSeconds", 30)) == grace


# Images --------------------------------------------------------------------------------------------------------------

PLAIN = {"repository": "python", "tag": "3.12-slim"}
COPIED = {"mountPath": "/opt/k8s-parsl-runtime", "readOnly": True}
FOLDER = COPIED | {"subPath": "opt/k8s-parsl-runtime"}


def users_containers(rendered: Rendered) -> dict[str, tuple[Object, str]]:
    found = {"job": (rendered.launcher, "workflow"), "test": (rendered.one("Pod"), "workflow")}
    return found | {label: (pod, "worker") for label, pod in rendered.workers.items()}


def runtimes(rendered: Rendered) -> dict[str, str]:
    """How each pod gets the runtime, having looked at all that belongs to it; empty: not at all."""
    found = {}
    for name, (pod, user) in users_containers(rendered).items():
        volumes = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "runtime"]
        own = [one for one in pod["spec"].get("initContainers", []) if one["name"] == "runtime"]
        mount = mounts(pod, user).get("runtime")
        match volumes:
            case []:
                assert (own, mount) == ([], None)
                found[name] = ""
            case [{"emptyDir": size}]:
                (copies,) = own
                assert (size, mount) == ({"sizeLimit": "16Mi"}, COPIED)
                assert copies["command"] == ["cp", "-r", "/opt/k8s-parsl-runtime/.", "/runtime/"]
                assert copies["image"] == OURS
                assert copies["volumeMounts"] == [{"name": "runtime", "mountPath": "/runtime"}]
                assert {"env", "envFrom", "args"}.isdisjoint(copies)
                found[name] = "copy"
            case [{"image": image}]:
                assert (own, mount) == ([], FOLDER)
                assert image == {"reference": OURS, "pullPolicy": "IfNotPresent"}
                found[name] = "image"
    return found


def everywhere(how: str) -> dict[str, str]:
    return dict.fromkeys(("job", "test", "a", "b"), how)


TWO = {"a": {}, "b": {}}
OTHER = {"pod": {"image": "cuda:1"}}
# (values, how each pod gets the runtime)
INJECTED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "no image: ours": ({}, everywhere("")),
    "any image": ({"image": PLAIN}, everywhere("copy")),
    "one built FROM ours": ({"image": PLAIN | {"runtime": "included"}}, everywhere("")),
    "ours by its name": ({"image": {"repository": "k8s-parsl"}}, everywhere("")),
    "ours, of another version": (
        {"image": {"repository": "k8s-parsl", "tag": "0.0.9"}},
        everywhere("copy"),
    ),
    "an executor's own": ({"executors": {"a": {}, "b": OTHER}}, everywhere("") | {"b": "copy"}),
    "an executor's own beside any": (
        {"image": PLAIN, "executors": {"a": {}, "b": OTHER}},
        everywhere("copy"),
    ),
    "an executor's own, all built FROM ours": (
        {"image": {"runtime": "included"}, "executors": {"a": {}, "b": OTHER}},
        everywhere(""),
    ),
    "an executor's that is ours": (
        {"image": PLAIN, "executors": {"a": {}, "b": {"pod": {"image": OURS}}}},
        everywhere("copy") | {"b": ""},
    ),
    "the workflow's own": ({"launcher": OTHER}, everywhere("") | {"job": "copy", "test": "copy"}),
    "the workers' own": ({"worker": OTHER}, everywhere("copy") | {"job": "", "test": ""}),
    "that of all pods": (OTHER, everywhere("copy")),
    "by an image volume": (
        {"image": PLAIN, "launcher": {"runtimeVolume": "image"}},
        everywhere("image"),
    ),
    "by an image volume, where it is needed": (
        {"executors": {"a": {}, "b": OTHER}, "launcher": {"runtimeVolume": "image"}},
        everywhere("") | {"b": "image"},
    ),
}


@pytest.mark.parametrize(("over", "expected"), INJECTED.values(), ids=INJECTED.keys())
def test_the_runtime_comes_where_the_image_has_it_not(each_helm, over, expected):
    assert runtimes(each_helm.template(over=values(**{"executors": TWO} | over))) == expected


# (values, image and pull policy of the user's containers, those of ours)
IMAGES: dict[str, tuple[dict[str, Any], tuple[str, str], tuple[str, str]]] = {
    "by default": ({}, (OURS, "IfNotPresent"), (OURS, "IfNotPresent")),
    "ours from elsewhere": (
        {
            "launcher": {
                "image": {"repository": "mirror/k8s-parsl", "tag": "main", "pullPolicy": "Always"}
            }
        },
        ("mirror/k8s-parsl:main", "Always"),
        ("mirror/k8s-parsl:main", "Always"),
    ),
    "another": ({"image": PLAIN}, ("python:3.12-slim", "IfNotPresent"), (OURS, "IfNotPresent")),
    "another, pulled each time": (
        {"image": PLAIN | {"pullPolicy": "Always"}},
        ("python:3.12-slim", "Always"),
        (OURS, "IfNotPresent"),
    ),
    "a pod's own": (
        {
            "pod": {"image": "mine:1"},
            "image": {"pullPolicy": "Never"},
            "launcher": {"image": {"pullPolicy": "Always"}},
        },
        ("mine:1", "Never"),
        (OURS, "Always"),
    ),
}


@pytest.mark.parametrize(("over", "users", "ours"), IMAGES.values(), ids=IMAGES.keys())
def test_which_image_each_container_has(helm, over, users, ours):
    """The user's is what changes daily; what holds rights is pinned apart from it."""
    git = MINIMAL["workflow"] | {"git": GIT}
    rendered = helm.template(over=values(workflow=git, **over))
    for pod, user in users_containers(rendered).values():
        for one in pod["spec"]["containers"] + pod["spec"]["initContainers"]:
            expected = users if one["name"] == user else ours
            assert (one["image"], one["imagePullPolicy"]) == expected, one["name"]
