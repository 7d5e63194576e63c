"""Every command that NOTES print works as printed, for that release, with both Helms.

By an administrator for a whole release; for one of the two halves by a user with a namespace's
rights, who is none.
"""

from __future__ import annotations

import json

import pytest
from cluster.conftest import SMALL, images_of
from cluster.test_rights import administrator, helm, place, release, user, version  # noqa: F401

# For these tests alone: what a test asks of the page's commands is not asked here.
DEV = "-f values/dev.yaml {values}"
FILES = " ".join(
    f"--set-file 'workflow.files.{name}\\.py=examples/product/{name}.py'"
    for name in ("product", "parslexec")
)
PAUSED = "--set job.suspend=true"
HALF = "--set admin.create=false"
NULLS = (
    """--set-json 'launcher.pod.annotations={"karpenter.sh/do-not-disrupt": null}' """
    """--set-json 'workflow.kwargs={"texts": ["a,b=c", "$(HOME) \\"x\\"", "{{ a }}"]}' --set-string run.id=first"""
)
# How it is installed, whether it runs, and whether by the user of a namespace.
KINDS = {
    "code from files": ("{product}", True, False),
    "a half": (f"{DEV} {HALF}", True, True),
    "a half whose Role is an administrator's": (
        f"{DEV} {HALF},rbac.create=false {PAUSED}",
        False,
        True,
    ),
    "a whole": (f"{DEV} {PAUSED}", False, False),
    "nulls, an id and texts of other syntaxes": (f"{DEV} {PAUSED} {NULLS}", False, False),
    "code on a volume": (f"{DEV} {PAUSED} --set workflow.path=/mnt/k8s-dev-pdg/code", False, False),
}


def commands(said):
    """The lines that NOTES print to be copied."""
    lines = [
        line.strip() for line in said.partition("NOTES:")[2].splitlines() if line.startswith("  ")
    ]
    return [line for line in lines if line.startswith(("helm ", "kubectl "))]


def product():
    """Return the flags of a small run, whose images only a cluster's machine has."""
    shared = " ".join([*images_of(), *SMALL])
    run = "workflow.call=product:main,workflow.kwargs.seconds=1,executors.workers.initBlocks=1"
    return f"{shared} {FILES} --set {run}"


def one(said, word):
    (found,) = [line for line in commands(said) if word in line]
    return found


QUICK = ("a half",)


@pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=[pytest.mark.slow] * (one not in QUICK)) for one in KINDS]
)
def test_every_command_works_as_printed(kind, administrator, user, release, version):  # noqa: F811
    how, runs, by_user = KINDS[kind]
    how = how.replace("{product}", product()) if "{product}" in how else how
    administrator.run("kubectl create namespace pdgrun")
    someone = user() if by_user else administrator
    if by_user:
        half = "--set admin.create=true,namespaced.create=false"
        administrator.run(
            f"helm template pdgrun ./chart -n pdgrun -f values/dev.yaml {half} | kubectl apply -f -"
        )
    if "rbac.create=false" in how:
        role = "--show-only templates/rbac.yaml"
        administrator.run(
            f"helm template pdgrun ./chart -n pdgrun -f values/dev.yaml {role} | kubectl apply -n pdgrun -f -"
        )
    # The one flag that a release does not remember, and a user needs at the first install alone.
    flag = (
        " --server-side=false"
        if by_user and version == "helm4" and "rbac.create=false" not in how
        else ""
    )
    install = f"helm install pdgrun ./chart -n pdgrun {how}{flag}".replace(" {values}", "")
    said = someone.run(install)
    values = json.loads(someone.run("helm get values pdgrun -n pdgrun -o json"))

    someone.shell(one(said, "describe pods"))
    someone.shell(one(said, "events"))
    if runs:
        assert release.wait_for_end() == "Complete", release.describe()
        assert "INFO" in someone.shell(one(said, "logs --follow"))
        someone.shell(one(said, "helm test"))
    assert commands(someone.shell(one(said, "helm status"))) == commands(said)

    before = release.job()
    again = someone.shell(one(said, "--set-string run.id="))
    (job,) = release.jobs()
    assert job.name != before.name
    values["run"] = values.get("run", {}) | {"id": "2"}
    assert json.loads(someone.run("helm get values pdgrun -n pdgrun -o json")) == values
    assert _same(job) == _same(before)
    if runs:
        assert release.wait_for_end(job) == "Complete", release.describe()
    # And once more, by what this one printed.
    someone.shell(one(again, "--set-string run.id="))
    (third,) = release.jobs()
    assert third.name not in (job.name, before.name)

    someone.shell(one(said, "job.suspend=true"))
    assert release.job().obj["spec"]["suspend"] is True
    someone.shell(one(said, "job.suspend=false"))
    assert release.job().obj["spec"]["suspend"] is False
    assert release.job().name == third.name

    someone.shell(one(said, "helm uninstall"))
    assert release.jobs() == []
    freed = [line for line in commands(said) if line.startswith("kubectl patch persistentvolume")]
    assert bool(freed) == by_user
    for line in freed:
        name = line.split()[3]
        administrator.run(
            f"kubectl wait persistentvolume/{name} --for=jsonpath={{.status.phase}}=Released --timeout=60s"
        )
        administrator.shell(line)
    if freed:
        someone.run(f"{install} {PAUSED}")
        bound = "--for=jsonpath={.status.phase}=Bound --timeout=60s"
        someone.run(f"kubectl -n pdgrun wait persistentvolumeclaim/pdgrun-dev-0 {bound}")
        someone.shell(one(said, "helm uninstall"))


def _same(job):
    """Of a Job's pod, what is not this run's own."""
    spec = json.dumps(job.obj["spec"]["template"]["spec"], sort_keys=True)
    settings = {
        volume["configMap"]["name"]
        for volume in json.loads(spec)["volumes"]
        if volume["name"] == "settings"
    }
    for name in settings:
        spec = spec.replace(name, "settings")
    return spec
