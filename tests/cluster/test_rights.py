"""Two halves, two people: an administrator, and a user with a namespace's permissions only.

The user's rights are those of a DataONE namespace (DataONEorg/k8s-cluster,
authorization/application-context.yaml): all of core, apps, networking and autoscaling, Jobs, and of
Roles only create, get and delete. Nothing of the cluster's own. The commands are those of
docs/admin/two-part-install.md and docs/user/one-namespace.md, read from there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass, field

import pytest
import yaml
from cluster.conftest import PATIENCE_S, ROOT, Release, images_of

from testbed import layout, tools

PAGES = (
    ROOT / "docs" / "admin" / "two-part-install.md",
    ROOT / "docs" / "user" / "one-namespace.md",
)
RULES = [
    {
        "apiGroups": ["", "apps", "networking.k8s.io", "extensions", "autoscaling"],
        "resources": ["*"],
        "verbs": ["*"],
    },
    {"apiGroups": ["batch"], "resources": ["jobs", "cronjobs"], "verbs": ["*"]},
    {
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["roles", "rolebindings"],
        "verbs": ["create", "get", "delete"],
    },
    {
        "apiGroups": ["policy"],
        "resources": ["poddisruptionbudgets"],
        "verbs": ["create", "get", "delete", "patch", "list"],
    },
]
CEPHFS = {
    "clusterID": "none",
    "rootPath": "/volumes/none",
    "secret": {
        "values": {"userID": "nobody", "userKey": "AQAAAAAAAAAAABAAbm90IGEgcmVhbCBrZXkhIQ=="}
    },
}


def blocks():
    """The pages' commands, by what stands over them."""
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    return dict(re.findall(r"<!-- run: (.*?) -->\n```\n(.*?)```", text, re.DOTALL))


@dataclass
class Person:
    """A person with a kubeconfig and one of the two Helms."""

    kubeconfig: str
    programs: str
    namespace: str
    values: list[str] = field(default_factory=list)

    def run(self, command, *, check=True):
        """Run a shell command with the test's namespace and values instead of the page's.

        Return its output.
        """
        command = re.sub(
            r"-n pdgrun|namespace pdgrun", lambda found: found[0][:-6] + self.namespace, command
        )
        return self.shell(
            command.replace("-f values/dev.yaml", " ".join(["-f values/dev.yaml", *self.values])),
            check=check,
        )

    def shell(self, command, *, check=True):
        """The command as it is."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ
            | {"KUBECONFIG": self.kubeconfig, "PATH": f"{self.programs}:{os.environ['PATH']}"},
            timeout=PATIENCE_S,
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def page(self, title):
        """The commands under that mark of the page."""
        return "".join(self.run(line) for line in blocks()[title].splitlines())

    def check(self, more=""):
        """Lines of `k8s-parsl check` that ask for something."""
        command = f"{sys.executable} -m k8s_parsl check pdgrun -n pdgrun -f values/dev.yaml {more}"
        said = self.run(command, check=False).splitlines()
        asks = [line for line in said if line.startswith("!!  ")]
        if asks:
            assert said.pop() == f"k8s-parsl: {len(asks)} of {len(said)} lines above need something"
        assert all(line[:4] in ("ok  ", "!!  ", "--  ") for line in said), said
        return asks


# The chart's tests, `helm test` and the hostile texts run with both quickly.
@pytest.fixture(params=[pytest.param("helm3", marks=pytest.mark.slow), "helm4"])
def helm(request, tmp_path):
    """Folder in which `helm` is one of the two."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "helm").symlink_to(
        tools.ensure() / {"helm3": "helm3", "helm4": "helm"}[request.param]
    )
    return folder


@pytest.fixture
def version(helm):
    return {"helm3": "helm3", "helm": "helm4"}[(helm / "helm").readlink().name]


@pytest.fixture
def place(kube_cluster):
    """A namespace's name and values.

    The test creates it as the page says; its end deletes all that the test made.
    """
    name = f"t-{uuid.uuid4().hex[:8]}"
    values = [*images_of("k8s-parsl-tiles"), "--set", "workflow.kwargs.max_zoom=1"]
    if given := os.environ.get("TEST_VALUES"):
        values = ["-f", given, *values]
    else:
        data = layout.data_dir() / name
        data.mkdir(parents=True)
        data.chmod(0o777)
        source = f"storage.dev-0.persistentVolumeSource.hostPath.path={data}"
        values = ["-f", "tests/testbed/values.yaml", *values, "--set", source]
    yield name, values
    kube_cluster.kubectl(f"delete namespace {name} --wait=false --ignore-not-found")
    for volume in json.loads(
        Release(kube_cluster, name).kubectl("get", "persistentvolume", "-o", "json")
    )["items"]:
        if volume["spec"].get("claimRef", {}).get("namespace") == name:
            kube_cluster.kubectl(
                f"delete persistentvolume {volume['metadata']['name']} --wait=false"
            )


@pytest.fixture
def administrator(helm, place, kube_cluster):
    namespace, values = place
    return Person(kube_cluster.kube_config_path, str(helm), namespace, values)


@pytest.fixture
def user(administrator, tmp_path):
    """An account in the page's namespace, with the permissions above or those given."""

    def make(rules=RULES):
        name = administrator.namespace
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
        role = {**rbac, "kind": "Role", "rules": rules}
        binding = {
            **rbac,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": name}],
        }
        file = tmp_path / "account.yaml"
        file.write_text(yaml.safe_dump_all([account, role, binding]))
        administrator.run(f"kubectl -n {name} apply -f {file}")
        token = administrator.run(f"kubectl -n {name} create token {name} --duration 1h").strip()
        config = json.loads(administrator.run("kubectl config view --raw --minify -o json"))
        config["users"] = [{"name": "user", "user": {"token": token}}]
        config["contexts"][0]["context"] |= {"user": "user", "namespace": name}
        kubeconfig = tmp_path / "user.kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(json.dumps(config))
        return Person(str(kubeconfig), administrator.programs, name, administrator.values)

    return make


@pytest.fixture
def release(kube_cluster, place):
    """For waiting and looking, with the administrator's eyes."""
    return Release(kube_cluster, place[0])


def left(release):
    """Objects of the release in its namespace, by kind/name."""
    kinds = "pod,secret,configmap,job,persistentvolumeclaim,serviceaccount,role,rolebinding"
    return [
        name for name in release.kubectl("get", kinds, "-o", "name").split() if "/pdgrun" in name
    ]


def newer_chart(folder):
    """A copy of the chart under another version."""
    chart = folder / "newer"
    shutil.copytree(ROOT / "chart", chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about | {"version": "9.9.9"}))
    return chart


def test_a_user_installs_upgrades_and_removes_with_a_namespaces_rights(
    administrator, user, release, version, tmp_path
):
    """With both Helms, and nothing but the commands of the page.

    A newer chart and another account need no more.
    """
    administrator.page("administrator")
    someone = user()
    assert someone.run("kubectl -n pdgrun auth can-i patch roles", check=False).strip() == "no"
    assert "cannot create resource" in someone.run(
        "kubectl create namespace none-of-yours", check=False
    )
    someone.page(f"{version} install")
    assert release.wait_for_end() == "Complete", release.describe()
    someone.page("upgrade")
    assert len(release.jobs()) == 1
    assert release.wait_for_end() == "Complete", release.describe()

    again = blocks()["upgrade"].strip()
    job = release.job().metadata["uid"]
    assert "upgraded" in someone.run(again.replace("./chart", str(newer_chart(tmp_path))))
    assert release.job().metadata["uid"] == job
    # Another account is bound by another RoleBinding.
    assert "upgraded" in someone.run(f"{again} --set serviceAccount.name=other,job.suspend=true")
    assert len([name for name in left(release) if name.startswith("rolebinding")]) == 1

    someone.page(f"{version} uninstall")
    assert left(release) == []
    administrator.page("administrator removes")
    assert release.namespace not in administrator.run("kubectl get persistentvolume")


def test_the_role_for_users_is_enough(administrator, user, release, version):
    """deploy/role-for-users.yaml is enough to install, watch, test, run again and uninstall."""
    (role,) = yaml.safe_load_all((ROOT / "deploy" / "role-for-users.yaml").read_text())
    administrator.page("administrator")
    someone = user(role["rules"])
    assert someone.check("--set admin.create=false") == []
    someone.page(f"{version} install")
    assert release.wait_for_end() == "Complete", release.describe()
    assert "INFO" in someone.run(
        f"kubectl -n pdgrun logs job/{release.job().name} --all-containers"
    )
    someone.run("kubectl -n pdgrun events")
    someone.run("helm test pdgrun -n pdgrun")
    someone.page("upgrade")
    assert release.wait_for_end() == "Complete", release.describe()
    someone.page(f"{version} uninstall")
    assert left(release) == []


def test_the_role_for_users_has_nothing_to_spare(administrator, user, version):
    """Without any one of its rules the install fails: Helm or the launcher's Role needs it."""
    (role,) = yaml.safe_load_all((ROOT / "deploy" / "role-for-users.yaml").read_text())
    administrator.page("administrator")
    install = f"{blocks()[f'{version} install'].strip()} --set job.suspend=true"
    for rule in role["rules"]:
        said = user([other for other in role["rules"] if other is not rule]).run(
            install, check=False
        )
        assert "forbidden" in said, rule
        user(role["rules"]).run("helm uninstall pdgrun -n pdgrun", check=False)


@pytest.mark.parametrize("helm", ["helm4"], indirect=True)
def test_helm_4_needs_its_flag(administrator, user):
    """If this fails, the page and NOTES can be shorter."""
    administrator.page("administrator")
    plain = blocks()["helm4 install"].strip().removesuffix(" --server-side=false")
    said = user().run(f"{plain} --set job.suspend=true", check=False)
    assert 'cannot patch resource "roles"' in said


@pytest.mark.slow
def test_without_its_own_role_any_helm_works(administrator, user, release, version):
    """rbac.create=false, plainly installed.

    The administrator's Role is of the same name and says the same.
    """
    administrator.page("administrator")
    administrator.page("administrator's role")
    someone = user()
    someone.page("install without a role")
    assert release.wait_for_end() == "Complete", release.describe()
    someone.page(f"{version} uninstall")
    assert {name.partition("/")[0] for name in left(release)} == {
        "role.rbac.authorization.k8s.io",
        "rolebinding.rbac.authorization.k8s.io",
    }


def command_of(line):
    """What a line of `k8s-parsl check` says to ask for."""
    return re.search(r"(?:helm template|kubectl) .*", line)[0]


def test_check_says_what_to_ask_for_in_words_that_work(administrator, user):
    """The administrator runs each line's command as it stands; the line is then gone."""
    (line,) = administrator.check()
    assert "there is no namespace" in line
    administrator.shell(command_of(line))
    someone = user()
    (line,) = someone.check()
    assert "you have no permission for persistentvolumes; set admin.create=false" in line
    administrator.shell(command_of(line))
    assert someone.check("--set admin.create=false") == []

    (line,) = someone.check("--set admin.create=false,rbac.create=false")
    assert "the launcher's ServiceAccount pdgrun-launcher has no permission to create pods" in line
    administrator.shell(command_of(line))
    assert someone.check("--set admin.create=false,rbac.create=false") == []
    # And with its own Role Helm would refuse it.
    assert [
        line
        for line in someone.check("--set admin.create=false")
        if "is not of release pdgrun" in line
    ]


def test_check_knows_a_volume_of_an_earlier_claim(administrator, version):
    """What is left when the user has uninstalled: it can be cleared away or freed."""
    administrator.page("administrator")
    administrator.run(f"{blocks()[f'{version} install'].strip()} --set job.suspend=true")
    bound = "--for=jsonpath={.status.phase}=Bound --timeout=60s"
    administrator.run(f"kubectl -n pdgrun wait persistentvolumeclaim/pdgrun-dev-0 {bound}")
    administrator.page(f"{version} uninstall")
    volume = administrator.run(
        f"kubectl get persistentvolume -o name | grep {administrator.namespace}"
    ).strip()
    administrator.run(
        f"kubectl wait {volume} --for=jsonpath={{.status.phase}}=Released --timeout=60s"
    )
    (line,) = administrator.check("--set admin.create=false")
    assert "still belongs to an earlier PVC pdgrun-dev-0" in line
    administrator.shell(command_of(line))
    administrator.run(
        f"kubectl wait {volume} --for=jsonpath={{.status.phase}}=Available --timeout=60s"
    )
    assert administrator.check("--set admin.create=false") == []


def test_the_administrators_half_has_the_secret_that_the_user_cannot_read(
    administrator, user, release, version, tmp_path
):
    """PersistentVolume and node-stage Secret of a CephFS volume; the user's claim binds to the one."""
    csi = f"{administrator.namespace}-csi"
    source = CEPHFS | {"secret": CEPHFS["secret"] | {"namespace": csi, "name": "key"}}
    file = tmp_path / "cephfs.yaml"
    volume = {"persistentVolumeSource": None, "cephfs": source}
    file.write_text(yaml.safe_dump({"storage": {"dev-0": volume}, "job": {"suspend": True}}))
    administrator.values[:] = ["-f", str(file)]
    administrator.run(f"kubectl create namespace {csi}")
    try:
        administrator.page("administrator")
        assert "userKey" in administrator.run(f"kubectl -n {csi} describe secret key")
        someone = user()
        assert "forbidden" in someone.run(f"kubectl -n {csi} get secret key", check=False)
        someone.page(f"{version} install")
        bound = "--for=jsonpath={.status.phase}=Bound --timeout=60s"
        someone.run(f"kubectl -n pdgrun wait persistentvolumeclaim/pdgrun-dev-0 {bound}")
        someone.page(f"{version} uninstall")
        administrator.page("administrator removes")
        assert "NotFound" in administrator.run(f"kubectl -n {csi} get secret key", check=False)
    finally:
        administrator.run(f"kubectl delete namespace {csi} --wait=false")
