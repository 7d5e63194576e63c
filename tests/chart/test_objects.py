"""What the chart makes, by the rules that launcher, cluster and administrators rely on."""

from __future__ import annotations

import copy
import re
import warnings
from typing import Any

import pytest
import yaml

from chart.helm import CHART, MINIMAL, REPOSITORY, VALUES, Object, container
from k8s_parsl.check import permissions
from k8s_parsl.identity import Identity
from k8s_parsl_runtime.shared.errors import ExitCode

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

EVERY_KEY = VALUES / "every-key.yaml"
DEV = VALUES / "dev.yaml"


def pods(rendered) -> list[tuple[Object, str]]:
    """Return every pod of a release, with the name of the container that runs the user's code."""
    return [
        (rendered.launcher, "workflow"),
        *((pod, "worker") for pod in rendered.workers.values()),
    ]


def environment(pod: Object, name: str) -> dict[str, Any]:
    return {
        item["name"]: item.get("value", item.get("valueFrom"))
        for item in container(pod, name).get("env", [])
    }


# Rights --------------------------------------------------------------------------------------------------------------


def test_the_launcher_has_exactly_the_rights_it_uses(helm, values_file):
    """The same for any values."""
    (role,) = helm.template(values_file).of("launcher", "Role")
    rules = role["rules"]
    assert [(rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in rules] == [
        (["pods"], None, ["create", "delete", "list", "watch"]),
        (["pods/log"], None, ["get"]),
        (["events"], None, ["create", "list"]),
        (["configmaps"], ["pdgrun"], ["get"]),
        (["secrets"], ["pdgrun-certificates", "pdgrun-certificates-test"], ["create", "patch"]),
    ]
    assert {tuple(rule["apiGroups"]) for rule in rules} == {("",)}


def test_without_rbac_events_the_launcher_has_no_right_to_create_events(helm):
    """For users who lack it: Kubernetes lets no user grant a permission that they do not have."""
    with_events = helm.template(DEV).one("Role")
    (role,) = helm.template(DEV, over={"rbac": {"events": False}}).of("launcher", "Role")
    verbs = {rule["resources"][0]: rule["verbs"] for rule in role["rules"]}
    assert verbs["events"] == ["list"]
    assert role["metadata"]["name"] != with_events["metadata"]["name"]


def test_the_role_for_users_has_all_that_the_launchers_role_grants(helm):
    """Else they could not install it."""
    text = (REPOSITORY / "deploy" / "role-for-users.yaml").read_text("utf-8")
    users = next(yaml.safe_load_all(text))
    for rule in helm.template(DEV).one("Role")["rules"]:
        for resource in rule["resources"]:
            allowed = {
                verb
                for one in users["rules"]
                if resource in one["resources"]
                for verb in one["verbs"]
            }
            assert set(rule["verbs"]) <= allowed, resource


def test_only_the_launcher_has_the_urls_for_messages(helm):
    """By a reference to the Secret that may be missing; not the one of `helm test`, no worker."""
    notify = {"notify": {"secret": "pdg-notify", "secretKey": "urls"}}
    rendered = helm.template(DEV, over=notify)
    reference = {"secretKeyRef": {"name": "pdg-notify", "key": "urls", "optional": True}}
    assert environment(rendered.launcher, "launcher")["K8S_PARSL_NOTIFY_URL"] == reference
    rest = copy.deepcopy(rendered.objects)
    for item in rest:
        if item["kind"] == "Job" and "launcher" in item["metadata"]["name"]:
            for one in item["spec"]["template"]["spec"]["containers"]:
                one.pop("env", None) if one["name"] == "launcher" else None
    assert "K8S_PARSL_NOTIFY_URL" not in str(rest)
    assert "NOTIFY" not in str(environment(rendered.launcher, "workflow"))
    named = [item for item in rest if "pdg-notify" in str(item)]
    assert [item["metadata"]["name"].rpartition("-")[0] for item in named] == ["pdgrun-settings"]
    assert "NOTIFY" not in str(helm.template(DEV).objects)


def test_check_asks_for_the_rights_that_the_role_grants(helm, values_file):
    """The Role and `k8s-parsl check` list the same, but for the Secret of `helm test`."""
    rendered = helm.template(values_file)
    (role,) = rendered.of("launcher", "Role")
    granted = {
        (verb, plural, name)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for plural in rule["resources"]
        for name in rule.get("resourceNames", [""])
        if name != "pdgrun-certificates-test"
    }
    assert granted == set(permissions.launcher_permissions("pdgrun", "pdgrun-certificates"))


def test_only_the_launchers_account_is_bound(helm):
    rendered = helm.template(DEV, namespace="science")
    binding = rendered.one("RoleBinding")
    account = rendered.launcher["spec"]["serviceAccountName"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account, "namespace": "science"}
    ]
    assert binding["roleRef"]["name"] == rendered.one("Role")["metadata"]["name"]
    assert rendered.workers["workers"]["spec"]["serviceAccountName"] != account


def test_no_pod_has_a_token_but_the_one_the_launcher_asks_for(helm, values_file):
    rendered = helm.template(values_file)
    for item in [*rendered.all("ServiceAccount"), *(pod["spec"] for pod, _ in pods(rendered))]:
        assert item["automountServiceAccountToken"] is False
    # The Job of the Ceph key asks for its own: test_ceph_key.py.
    tokens = [
        source["serviceAccountToken"]
        for volume in rendered.launcher["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        if "serviceAccountToken" in source
    ]
    assert tokens == [{"path": "token", "expirationSeconds": 3600}]
    assert "serviceAccountToken" not in str(rendered.workers)


def test_accounts_and_role_may_exist_already(helm):
    over = {
        "serviceAccount": {"create": False, "name": "pdgrun"},
        "workerServiceAccount": {"create": False},
        "rbac": {"create": False},
    }
    rendered = helm.template(DEV, over=over)
    assert rendered.all("ServiceAccount") + rendered.all("Role") + rendered.all("RoleBinding") == []
    assert rendered.launcher["spec"]["serviceAccountName"] == "pdgrun"
    assert rendered.workers["workers"]["spec"]["serviceAccountName"] == "default"


# Two halves ----------------------------------------------------------------------------------------------------------


def test_the_two_halves_make_the_whole(helm):
    """The administrator's and the user's part, from one file.

    docs/dev/architecture.md, "Two-part install".
    """
    admin = helm.template(EVERY_KEY, over={"namespaced": {"create": False}})
    user = helm.template(EVERY_KEY, over={"admin": {"create": False}})
    whole = helm.template(EVERY_KEY)
    volumes = admin.all("PersistentVolume")
    assert len(volumes) == 6
    cluster_wide = {
        "PersistentVolume",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    placed = [item for item in admin.objects if item["kind"] not in cluster_wide]
    assert all(item["metadata"]["namespace"] == "ceph-csi-cephfs" for item in placed)
    assert cluster_wide.isdisjoint({item["kind"] for item in user.objects})
    assert user.of("ceph-key") == []
    assert all("namespace" not in item["metadata"] for item in user.objects)
    assert sorted(map(str, [*admin.objects, *user.objects])) == sorted(map(str, whole.objects))


def test_the_halves_meet_under_other_release_names(helm):
    """Two releases in one namespace have two names; claimName is what both know."""
    over = {"storage": {"dev-0": {"claimName": "pdgrun-dev-0"}}}
    admin = helm.template(
        DEV, over=over | {"namespaced": {"create": False}}, release="pdgrun-admin"
    )
    user = helm.template(DEV, over=over | {"admin": {"create": False}})
    volume, claim = admin.one("PersistentVolume"), user.one("PersistentVolumeClaim")
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert volume["spec"]["claimRef"] == {"namespace": "pdgrun", "name": claim["metadata"]["name"]}


# Labels --------------------------------------------------------------------------------------------------------------


def test_every_object_has_the_recommended_labels(helm, values_file):
    recommended = {"name", "instance", "version", "part-of", "managed-by"}
    for item in helm.template(values_file).objects:
        labels = item["metadata"]["labels"]
        # What users may make but not change has none of a version: test_run_name.py.
        fixed = (
            item["kind"] in ("Role", "RoleBinding")
            and labels["app.kubernetes.io/component"] == "launcher"
        )
        wanted = recommended - {"version"} if fixed else recommended
        assert {f"app.kubernetes.io/{label}" for label in wanted} <= labels.keys()
        assert ("helm.sh/chart" in labels) is not fixed


def test_no_pod_says_which_chart_made_it(helm, values_file):
    """A version in a pod template would make every upgrade of the chart a new run."""
    rendered = helm.template(values_file)
    for pod, component in [
        (rendered.launcher, "launcher"),
        *((pod, "worker") for pod in rendered.workers.values()),
    ]:
        labels = pod["metadata"]["labels"]
        assert {
            "app.kubernetes.io/version",
            "helm.sh/chart",
            "app.kubernetes.io/managed-by",
        }.isdisjoint(labels)
        assert labels["app.kubernetes.io/component"] == component
        assert labels["app.kubernetes.io/instance"] == "pdgrun"


def test_names_that_yaml_could_take_for_numbers_stay_text(helm):
    rendered = helm.template(EVERY_KEY, release="1e3", namespace="123")
    for item in [*rendered.objects, *rendered.workers.values(), rendered.launcher]:
        assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == "1e3"
    assert environment(rendered.launcher, "launcher")["K8S_PARSL_RELEASE"] == "1e3"
    assert rendered.one("RoleBinding", "1e3-launcher")["subjects"][0]["namespace"] == "123"


# Pods ----------------------------------------------------------------------------------------------------------------


def test_every_pod_fits_pod_securitys_restricted_profile(helm, values_file):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    allowed = {
        "configMap",
        "downwardAPI",
        "emptyDir",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for pod, _ in pods(helm.template(values_file)):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] >= 10000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "fsGroup" not in spec["securityContext"]
        for item in spec["containers"] + spec.get("initContainers", []):
            assert item["securityContext"]["allowPrivilegeEscalation"] is False
            assert item["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {kind for volume in spec["volumes"] for kind in volume.keys() - {"name"}} <= allowed


def test_an_fs_group_does_not_walk_over_a_volume_that_is_right_already(helm):
    spec = helm.template(DEV, over={"pod": {"securityContext": {"fsGroup": 5}}}).launcher["spec"]
    assert spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


def test_workflow_and_workers_agree(helm, values_file):
    """On the image, where they may write, where the volumes are and where the workflow's code is."""
    rendered = helm.template(values_file)
    theirs = {"settings", "kubernetes-api", "socket", "launcher-tmp", "certificates"}

    def shared(pod: Object, name: str) -> tuple[Any, ...]:
        mounts = [
            mount for mount in container(pod, name)["volumeMounts"] if mount["name"] not in theirs
        ]
        volumes = [volume for volume in pod["spec"]["volumes"] if volume["name"] not in theirs]
        image = container(pod, name)["image"].replace("tiles-debug:1.2", "tiles@sha256:")[:35]
        code = environment(pod, name)["PYTHONPATH"]
        return mounts, volumes, image, code, environment(pod, name)["HOME"]

    expected = shared(rendered.launcher, "workflow")
    for pod in rendered.workers.values():
        assert shared(pod, "worker") == expected
    mounts = {mount["mountPath"] for mount in expected[0]}
    assert {"/tmp", "/run/k8s-parsl"} <= mounts
    volumes = {volume["name"]: volume for volume in expected[1]}
    assert volumes["tmp"]["emptyDir"] == {}
    assert volumes["run"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Mi"}


def test_the_launcher_has_its_identity_in_the_environment(helm):
    """Everything that identity.py reads."""
    env = environment(helm.template(DEV).launcher, "launcher")
    facts = {f"K8S_PARSL_{field.upper()}" for field in Identity.__dataclass_fields__}
    assert facts == {name for name in env if name.startswith("K8S_PARSL_")}
    assert env["K8S_PARSL_CERTIFICATES"] == "pdgrun-certificates"
    assert env["K8S_PARSL_RUN"] == {"fieldRef": {"fieldPath": "metadata.labels['k8s-parsl/run']"}}


def test_a_worker_manifest_leaves_to_the_launcher_what_is_the_launchers(helm, values_file):
    """Name, namespace, owner and run.

    Container `worker` comes first and takes the launcher's arguments.
    """
    for label, pod in helm.template(values_file).workers.items():
        assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
        assert pod["metadata"].keys() <= {"labels", "annotations"}
        assert pod["metadata"]["labels"]["k8s-parsl/executor"] == label
        assert "k8s-parsl/run" not in pod["metadata"]["labels"]
        assert pod["spec"]["restartPolicy"] == "Never"
        assert pod["spec"]["containers"][0]["name"] == "worker"
        assert pod["spec"]["containers"][0]["args"] == ["worker"]


def test_workers_have_the_runs_keys_only_where_it_is_encrypted(helm):
    def keys(*, encrypted: bool) -> list[Object]:
        over = {"parsl": {"encrypted": encrypted}}
        spec = helm.template(DEV, over=over).workers["workers"]["spec"]
        return [volume["secret"] for volume in spec["volumes"] if volume["name"] == "certificates"]

    assert keys(encrypted=True) == [{"secretName": "pdgrun-certificates", "defaultMode": 0o444}]
    assert keys(encrypted=False) == []


def test_there_is_a_port_for_each_executor(helm):
    """Of the workflow's container, in which the interchange listens.

    The launcher's own listens to Prometheus alone, where that is asked for.
    """
    launcher = helm.template(EVERY_KEY).launcher
    assert [port["containerPort"] for port in container(launcher, "workflow")["ports"]] == [
        25000,
        25001,
    ]
    metrics = {"name": "metrics", "containerPort": 9191}
    assert container(launcher, "launcher")["ports"] == [metrics]
    assert "ports" not in container(helm.template(over=MINIMAL).launcher, "launcher")


def test_pod_is_overridden_by_kind_and_by_executor(helm):
    """launcher.pod and worker.pod override pod, and an executor's pod overrides both.

    Maps merge, lists are replaced, null removes a key.
    """
    over = {
        "pod": {
            "nodeSelector": {"a": "pod", "b": "pod", "c": "pod"},
            "tolerations": [{"key": "pod"}],
            "terminationGracePeriodSeconds": 5,
        },
        "launcher": {"pod": {"nodeSelector": {"b": "launcher"}}},
        "worker": {
            "pod": {
                "nodeSelector": {"b": "worker", "c": None},
                "containerSecurityContext": {"runAsUser": 0},
            }
        },
        "executors": {
            "workers": {
                "pod": {
                    "nodeSelector": {"b": "executor"},
                    "containerSecurityContext": {"readOnlyRootFilesystem": False},
                    "resources": {"limits": {"cpu": None}},
                    "enableServiceLinks": True,
                }
            }
        },
    }
    rendered = helm.template(DEV, over=over)
    launcher, worker = rendered.launcher["spec"], rendered.workers["workers"]["spec"]
    assert launcher["nodeSelector"] == {"a": "pod", "b": "launcher", "c": "pod"}
    assert worker["nodeSelector"] == {"a": "pod", "b": "executor"}
    assert launcher["tolerations"] == [{"key": "pod"}]
    assert worker["tolerations"][0]["key"] == "pod"
    assert (launcher["terminationGracePeriodSeconds"], worker["terminationGracePeriodSeconds"]) == (
        5,
        5,
    )
    assert worker["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is False
    assert worker["containers"][0]["securityContext"]["runAsUser"] == 0
    assert worker["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}
    assert (launcher["enableServiceLinks"], worker["enableServiceLinks"]) == (False, True)


def test_a_variable_that_is_given_takes_the_place_of_the_charts(helm):
    """Not a second one of that name, which server-side apply refuses."""
    over = {"pod": {"env": [{"name": "PYTHONPATH", "value": "/mine"}]}}
    for pod, name in pods(helm.template(DEV, over=over)):
        names = [item["name"] for item in container(pod, name)["env"]]
        assert len(names) == len(set(names))
        assert environment(pod, name)["PYTHONPATH"] == "/mine"


def test_workers_leave_a_lost_node_soon(helm):
    """After a minute, where Kubernetes itself would wait for five; a toleration that is given wins."""
    lost = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
    tolerations = helm.template(DEV).workers["workers"]["spec"]["tolerations"]
    assert {item["key"]: item["tolerationSeconds"] for item in tolerations} == dict.fromkeys(
        lost, 60
    )
    given = helm.template(EVERY_KEY).workers["small"]["spec"]["tolerations"]
    seconds = {item["key"]: item.get("tolerationSeconds") for item in given}
    assert seconds == {lost[0]: 30, lost[1]: 10, "nvidia.com/gpu": None}


# The Job -------------------------------------------------------------------------------------------------------------


def test_the_job_ends_at_once_where_a_new_launcher_cannot_help(helm):
    """The rule names the container, as a sidecar's exit code says nothing about the run.

    docs/dev/architecture.md, "Exit codes".
    """
    final = [
        ExitCode.WORKFLOW,
        ExitCode.USAGE,
        ExitCode.DATA,
        ExitCode.PERMISSION,
        ExitCode.CONFIGURATION,
    ]

    def rules(*, retry: bool) -> list[Object]:
        policy = helm.template(DEV, over={"job": {"retryOnFailure": retry}}).job["spec"][
            "podFailurePolicy"
        ]
        return list(policy["rules"])

    fail, ignore = rules(retry=False)
    assert fail["onExitCodes"] == {
        "containerName": "launcher",
        "operator": "In",
        "values": [int(c) for c in final],
    }
    assert ignore["action"] == "Ignore"
    assert ignore["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert rules(retry=True)[0]["onExitCodes"]["values"] == [int(c) for c in final[1:]]


def test_there_is_one_launcher_at_a_time(helm, values_file):
    spec = helm.template(values_file).job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["podReplacementPolicy"]) == (
        1,
        1,
        "Failed",
    )
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_a_run_that_is_kept_nowhere_is_not_tried_again(helm):
    """Nothing could be resumed (docs/dev/architecture.md, "The run volume")."""
    assert helm.template(over=MINIMAL).job["spec"]["backoffLimit"] == 0
    assert helm.template(DEV).job["spec"]["backoffLimit"] == 3


@pytest.mark.parametrize(
    ("lost_tasks", "volume", "ignored"),
    [
        *(
            ("cached", "", False),
            ("none", "", False),
            ([], "", False),
            (["all"], "", False),
            ("all", "", True),
        ),
        ("cached", "data", True),
    ],
)
def test_a_drain_starts_another_launcher_only_where_that_one_can_know_what_has_begun(
    helm, lost_tasks, volume, ignored
):
    """Kept nowhere, the run would begin again from nothing: what may not run twice would."""
    storage = {"data": {"mountPath": "/data", "existingClaim": "c"}} if volume else {}
    over = {
        **MINIMAL,
        "run": {"volume": volume},
        "storage": storage,
        "parsl": {"retryLostTasks": lost_tasks},
    }
    rules = helm.template(over=over).job["spec"]["podFailurePolicy"]["rules"]
    assert ("Ignore" in [rule["action"] for rule in rules]) is ignored


# Storage -------------------------------------------------------------------------------------------------------------

CEPHFS = {"clusterID": "c", "fsName": "f", "rootPath": "/volumes/a", "secret": {"name": "s"}}


def storage(helm, **source: Any):
    over = MINIMAL | {"storage": {"data": {"mountPath": "/data", **source}}}
    return helm.template(over=over, namespace="science")


def test_an_existing_claim_is_mounted_and_nothing_made(helm):
    rendered = storage(helm, existingClaim="theirs")
    assert rendered.all("PersistentVolume") + rendered.all("PersistentVolumeClaim") == []
    assert {
        "name": "storage-data",
        "persistentVolumeClaim": {"claimName": "theirs"},
    } in rendered.launcher["spec"]["volumes"]


@pytest.mark.parametrize(
    "source",
    [{"cephfs": CEPHFS}, {"persistentVolumeSource": {"nfs": {"server": "n", "path": "/"}}}],
)
def test_a_static_volume_and_its_claim_are_bound_to_each_other(helm, source):
    """By name in both directions, and never through the cluster's default class."""
    rendered = storage(helm, **source)
    volume, claim = rendered.one("PersistentVolume"), rendered.one("PersistentVolumeClaim")
    assert claim["metadata"]["name"] == "pdgrun-data"
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert volume["spec"]["claimRef"] == {"namespace": "science", "name": "pdgrun-data"}
    assert (volume["spec"]["storageClassName"], claim["spec"]["storageClassName"]) == ("", "")
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    prefix = "cephfs-" if "cephfs" in source else ""
    assert volume["metadata"]["name"] == f"{prefix}science.pdgrun-data"


@pytest.mark.parametrize(
    ("namespace", "volume", "name"),
    [
        ("pdgrun", {}, "cephfs-pdgrun-data"),
        ("pdg", {}, "cephfs-pdg.pdgrun-data"),
        ("pdgrun-d", {}, "cephfs-pdgrun-d.pdgrun-data"),
        ("pdgrun-d", {"claimName": "pdgrun-d-ata"}, "cephfs-pdgrun-d.pdgrun-d-ata"),
        ("pdgrun", {"claimName": "other"}, "cephfs-pdgrun.other"),
        ("pdgrun", {"claimName": "pdgrun"}, "cephfs-pdgrun.pdgrun"),
        ("pdgrun", {"volumeName": "mine"}, "mine"),
        ("pdg", {"claimName": "c" * 52}, f"cephfs-pdg.{'c' * 52}"),
    ],
)
def test_a_persistent_volume_has_dataones_name(helm, namespace, volume, name):
    """`cephfs-<PVC>` of a release with the namespace's name; any other has the namespace."""
    data = {"mountPath": "/data", "cephfs": CEPHFS} | volume
    rendered = helm.template(over=MINIMAL | {"storage": {"data": data}}, namespace=namespace)
    assert rendered.one("PersistentVolume")["metadata"]["name"] == name
    assert rendered.one("PersistentVolumeClaim")["spec"]["volumeName"] == name


def test_a_persistent_volumes_name_has_at_most_63_characters(helm):
    """A longer one is cut, and gets a hash of namespace and PVC."""
    volumes = [
        storage(helm, cephfs=CEPHFS, claimName="c" * 60 + end).one("PersistentVolume")
        for end in "ab"
    ]
    first, second = (volume["metadata"]["name"] for volume in volumes)
    assert first != second
    assert re.fullmatch("cephfs-science\\.c{39}-[0-9a-f]{8}", first)


def test_the_seeds_volume(helm):
    """The tutorial's PersistentVolume, key by key."""
    volume = helm.template(DEV).one("PersistentVolume")
    assert volume["spec"]["csi"] == {
        "driver": "cephfs.csi.ceph.com",
        "nodeStageSecretRef": {"name": "csi-cephfs-pdgrun-secret", "namespace": "ceph-csi-cephfs"},
        "volumeAttributes": {
            "clusterID": "8aa3d4a0-b577-a1ba-dba5-ddc787bfc812",
            "fsName": "cephfs",
            "staticVolume": "true",
            "rootPath": "/volumes/k8s-dev-pdg-subvol-group/k8s-dev-pdg-subvol/674cdd70-2571-1fff-8a4e-e6cf1d945d7a",
        },
        "volumeHandle": "cephfs-pdgrun-pdgrun-dev-0-cdb85007",
    }
    assert volume["metadata"]["name"] == "cephfs-pdgrun-dev-0"
    assert volume["spec"]["capacity"] == {"storage": "10Gi"}
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
    assert helm.template(DEV).one("PersistentVolumeClaim")["metadata"]["name"] == "pdgrun-dev-0"


def test_another_source_has_another_handle(helm):
    """A node that still has the old source mounted must not take it for the new one."""
    sources = [
        {"cephfs": CEPHFS},
        {"cephfs": CEPHFS | {"rootPath": "/volumes/b"}},
        {"cephfs": CEPHFS | {"secret": {"name": "other"}}},
        {"cephfs": CEPHFS | {"volumeHandle": "given"}},
        {"cephfs": CEPHFS, "claimName": "other"},
    ]
    volumes = [storage(helm, **source).one("PersistentVolume") for source in sources]
    assert len({volume["spec"]["csi"]["volumeHandle"] for volume in volumes}) == len(sources)
    names = [volume["metadata"]["name"] for volume in volumes]
    assert names == ["cephfs-science.pdgrun-data"] * 4 + ["cephfs-science.other"]
    # Neither size nor mount options are part of the source: both can be changed in place.
    changed = storage(helm, size="1Ti", cephfs=CEPHFS | {"mountOptions": ["noatime"]}).one(
        "PersistentVolume"
    )
    assert changed["metadata"]["name"] == volumes[0]["metadata"]["name"]
    assert changed["spec"]["mountOptions"] == ["noatime"]


def test_a_dynamic_claim_outlives_the_release(helm):
    """It is the data: neither Helm nor Argo CD may delete it.

    A static one goes, and the data stays on Ceph.
    """
    claim = storage(helm, storageClassName="fast", size="5Gi").one("PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {
        "helm.sh/resource-policy": "keep",
        "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
        "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
        "argocd.argoproj.io/sync-wave": "1",
    }
    assert claim["spec"]["storageClassName"] == "fast"
    assert "volumeName" not in claim["spec"]
    assert (
        "annotations" not in storage(helm, cephfs=CEPHFS).one("PersistentVolumeClaim")["metadata"]
    )


def test_a_read_only_volume_is_read_only_everywhere(helm):
    rendered = storage(helm, existingClaim="theirs", readOnly=True)
    for pod, name in pods(rendered):
        assert {"name": "storage-data", "mountPath": "/data", "readOnly": True} in container(
            pod, name
        )["volumeMounts"]
        claims = [volume.get("persistentVolumeClaim") for volume in pod["spec"]["volumes"]]
        assert {"claimName": "theirs", "readOnly": True} in claims


# All of it -----------------------------------------------------------------------------------------------------------


def test_every_object_is_valid_for_kubernetes(helm, values_file):
    """By the API's own schema, which knows no other fields, at the chart's floor and at the newest."""
    rendered = helm.template(values_file)
    for version in ("1.31", "1.37"):
        for item in rendered.objects:
            if item["kind"] not in ("ExternalSecret", "PodMonitor"):  # other projects'
                kubernetes_validate.validate(item, version, strict=True)
        for label, worker in rendered.workers.items():
            manifest = worker | {"metadata": worker["metadata"] | {"name": f"worker-{label}"}}
            kubernetes_validate.validate(manifest, version, strict=True)


def test_no_template_asks_the_cluster_or_the_clock():
    """Argo CD renders without a cluster, and the same values must always render the same.

    NOTES may know a revision.
    """
    clock = r"lookup|now|randAlpha\w*|randNumeric|uuidv4|genCA|genSignedCert"
    for file in (CHART / "templates").rglob("*.*"):
        of_a_release = (
            "" if file.name in ("NOTES.txt", "_notes.tpl") else r"|Release\.Revision|IsUpgrade"
        )
        code = re.sub(r"\{\{-? */\*.*?\*/ *-?\}\}", "", file.read_text("utf-8"), flags=re.DOTALL)
        found = re.findall(
            rf"\b({clock}{of_a_release})\b", " ".join(re.findall(r"\{\{.*?\}\}", code))
        )
        assert found == [], file.name


def test_the_chart_names_its_oldest_kubernetes(helm):
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == ">=1.31.0-0"
    text = helm("template", "a", "chart", "-f", str(DEV), "--kube-version", "1.30.9", check=False)
    assert "incompatible with Kubernetes v1.30.9" in text


def test_how_an_fsgroup_is_applied_is_the_users_to_say(helm):
    """The default is OnRootMismatch. Without an fsGroup the field is not there."""
    context = {"fsGroup": 100, "fsGroupChangePolicy": "Always"}
    given = helm.template(over=MINIMAL | {"pod": {"securityContext": context}})
    assert given.launcher["spec"]["securityContext"].items() >= context.items()
    assert (
        "fsGroupChangePolicy" not in helm.template(over=MINIMAL).launcher["spec"]["securityContext"]
    )


@pytest.mark.parametrize(
    "source",
    [
        {"persistentVolumeSource": {"nfs": {"server": "s", "path": "/a"}}},
        {"storageClassName": "fast"},
    ],
)
def test_a_volume_has_the_users_labels_and_annotations_and_the_charts_over_them(helm, source):
    """On the claim, and on the PersistentVolume where the chart makes it.

    A backup is steered by them.
    """
    labels = {"policy": "daily", "app.kubernetes.io/name": "mine", "dropped": None}
    annotations = {"contact": "a: b # c", "helm.sh/resource-policy": "mine"}
    rendered = storage(helm, **source, labels=labels, annotations=annotations)
    made = rendered.all("PersistentVolumeClaim") + rendered.all("PersistentVolume")
    assert len(made) == (1 if "storageClassName" in source else 2)
    for item in made:
        metadata = item["metadata"]
        assert (metadata["labels"]["policy"], metadata["labels"]["app.kubernetes.io/name"]) == (
            "daily",
            "k8s-parsl",
        )
        assert "dropped" not in metadata["labels"]
        assert metadata["annotations"]["contact"] == "a: b # c"
        kept = "keep" if "storageClassName" in source else "mine"
        assert metadata["annotations"]["helm.sh/resource-policy"] == kept
