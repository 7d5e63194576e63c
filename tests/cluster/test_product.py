"""The tutorial's example, through `helm install`, from a ConfigMap and without a volume."""

from __future__ import annotations

import time

import pytest


def test_the_module(product):
    """25 products on two worker pods, encrypted; their sum is 100."""
    product.install("--set", "workflow.call=product:main,workflow.kwargs.seconds=1")
    assert product.wait_for_end() == "Complete", product.describe()
    log = product.log()
    assert "The sum of all 25 products is 100" in log
    assert "25 tasks, 25 done, 0 failed" in log
    assert product.end_of_launcher()[0] == 0
    assert [
        pod.obj["metadata"]["labels"]["app.kubernetes.io/component"] for pod in product.pods()
    ] == ["launcher"]


@pytest.mark.slow
def test_the_plain_script_with_a_config_of_its_own(product):
    """Unchanged: the chart's Config replaces its Config, and the log names what it ignored."""
    env = "launcher.pod.env[0].name=PRODUCT_SECONDS,launcher.pod.env[0].value=1"
    product.install("--set", "workflow.script=example-parsl.py", "--set-string", env)
    assert product.wait_for_end() == "Complete", product.describe()
    log = product.log()
    assert "The sum of all 25 products is 100" in log
    assert (
        "set aside from the workflow's own: executors kube-htex (HighThroughputExecutor on LocalProvider)"
        in log
    )
    assert "app calc_product_long names executor kube-htex: it runs on workers" in log


@pytest.mark.slow
def test_an_executor_that_cannot_be_guessed_is_refused_by_name(product):
    """With several executors it is unclear which one the script means."""
    product.install("--set", "workflow.script=example-parsl.py,executors.highmem.maxBlocks=1")
    assert product.wait_for_end() == "Failed"
    code, message = product.end_of_launcher()
    assert code == 78
    assert "app calc_product_long names executor kube-htex" in message
    assert "highmem, workers" in message


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ("workflow.call=nope:main", 64, "workflow.call nope:main: there is no module nope"),
        ("workflow.call=product:nope", 64, "workflow.call: module product has no function nope"),
        (
            "workflow.call=product:main,workflow.kwargs.sise=5",
            64,
            "workflow.kwargs: product:main: got an unexpected",
        ),
        ("workflow.script=nope.py", 64, "workflow.script: there is no file /opt/workflow/nope.py"),
        ("workflow.call=product:main,workflow.kwargs.size=x", 1, "the workflow raised TypeError"),
    ],
)
def test_a_wrong_value_ends_the_job_with_its_code_and_one_line(product, settings, code, message):
    """The Job fails at once (no second pod), and the line is the pod's termination message."""
    product.install("--set", settings, "--set", "job.backoffLimit=3")
    assert product.wait_for_end() == "Failed"
    ended, said = product.end_of_launcher()
    assert (ended, message in said) == (code, True), said
    assert "\n" not in said.strip()
    assert len(product.pods("launcher")) == 1


def test_a_bad_image_of_an_executor_ends_the_run_with_78(product):
    """The launcher names the executor, the image and the registry's words."""
    bad = "executors.workers.pod.image=127.0.0.1:9/nowhere/none:1,executors.workers.configurationTimeout=5"
    product.install("--set", f"workflow.call=product:main,{bad}")
    assert product.wait_for_end() == "Failed"
    code, said = product.end_of_launcher()
    assert code == 78
    assert "executors.workers: worker pod product-workers-" in said
    assert "127.0.0.1:9/nowhere/none:1" in said
    product.wait_for_pods(lambda pods: not pods, component="worker")


@pytest.mark.slow
def test_a_missing_claim_of_an_executor_ends_the_run_with_78(product):
    """It is distinguished from a lack of room, for which the run would wait."""
    pod = "executors.workers.pod"
    claim = f"{pod}.volumes[0].name=x,{pod}.volumes[0].persistentVolumeClaim.claimName=not-there"
    product.install(
        "--set", f"workflow.call=product:main,executors.workers.configurationTimeout=5,{claim}"
    )
    assert product.wait_for_end() == "Failed"
    code, said = product.end_of_launcher()
    assert code == 78
    assert 'persistentvolumeclaim "not-there" not found' in said


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            "launcher.image.repository=127.0.0.1:9/nowhere/none,launcher.image.tag=v1",
            "127.0.0.1:9/nowhere/none:v1",
        ),
        ("launcher.pod.image=127.0.0.1:9/nowhere/none:1", "127.0.0.1:9/nowhere/none:1"),
        (
            "launcher.pod.volumes[0].name=x,launcher.pod.volumes[0].persistentVolumeClaim.claimName=not-there",
            'persistentvolumeclaim "not-there" not found',
        ),
    ],
)
def test_the_command_of_notes_shows_what_the_launchers_own_pod_waits_for(product, settings, named):
    """Where none of our code runs yet, the one place to look is what NOTES print.

    No worse where the launcher does.
    """
    product.install("--set", "workflow.call=product:main", "--set", settings)
    notes = product.helm("get", "notes", product.name).out
    command = next(line for line in notes.splitlines() if "describe pods" in line)
    product.wait_for_pods(
        lambda pods: any(named in _messages(pod) for pod in pods.values()), component="launcher"
    )
    assert named in product.kubectl(*_arguments(command)), command


def _messages(pod):
    """What kubelet and the scheduler say of it."""
    status = pod["status"]
    waiting = [
        container["state"].get("waiting", {}) for container in status.get("containerStatuses", [])
    ]
    return str([entry.get("message") for entry in [*waiting, *status.get("conditions", [])]])


def _arguments(command):
    import shlex

    words = shlex.split(command.replace("\\\n", " "))
    assert words[0] == "kubectl"
    return words[1:]


def test_uninstall_in_mid_run_leaves_nothing(product):
    """No pod, Secret or ConfigMap of the release, within the pods' own grace periods."""
    product.install("--set", "workflow.call=product:main,workflow.kwargs.seconds=60")
    product.wait_for_pods(
        lambda pods: sum(pod["status"].get("phase") == "Running" for pod in pods.values()) == 2,
        component="worker",
    )
    began = time.monotonic()
    product.uninstall()
    product.wait_for_pods(lambda pods: not pods)
    left = product.kubectl(
        "get", "pod,secret,configmap,job,sa,role,rolebinding", "-o", "name"
    ).split()
    assert [name for name in left if "product" in name] == [], left
    assert time.monotonic() - began < 120
