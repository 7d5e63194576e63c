"""`k8s-parsl check`: what a release will need or waits for, and what to change or to ask an
administrator for.

For the time in which none of our code runs: before an install (`preflight`), and while a pod is not
started, as one whose volume cannot be mounted says so in events alone, in the words of the mount's
program. With the caller's own rights; changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k8s_parsl.check import release as rendered
from k8s_parsl.check.lines import Line, fine, wanted
from k8s_parsl.check.preflight import preflight
from k8s_parsl.check.references import claim
from k8s_parsl.identity import MOUNTED, Identity, of_release
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl.kube.resource import of_kind
from k8s_parsl.kube.mount_errors import explain
from k8s_parsl.kube.pod_state import event_time, read
from k8s_parsl.kube.retry import failure
from k8s_parsl_runtime.shared.errors import ConfigurationError, UsageError

# What a release is called where only its values are named, as in the documentation.
RELEASE = "pdgrun"
# Events that tell why a pod is not started though a node was found for it.
TELLING = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "Failed")

# Reasons whose words speak of a worker; of another pod its own last line tells.
OF_A_WORKER = ("WorkerConfiguration", "WorkerPermission", "Error")


def lines(
    environment: Mapping[str, str],
    release: str,
    namespace: str,
    values: Sequence[str],
    sets: Sequence[str],
    chart: str,
) -> Iterator[Line]:
    """`check` for the command line: in a launcher's pod of its own release, else with the
    kubeconfig.

    Raises:
        Failure: see `check`; UsageError: neither a release nor a values file is named, or helm
        takes none.
    """
    if environment.get("K8S_PARSL_POD_UID"):
        identity = Identity.from_environment(environment)
        mounted = rendered.in_pod(identity.release, identity.namespace, MOUNTED)
        yield from check(Api(identity.namespace), identity.release, mounted)
        return
    if not (release or values):
        raise UsageError("name a release, or a values file (-f) for one that is to be installed")
    api = Api(namespace, kubeconfig=True)
    release = release or RELEASE
    needs = rendered.from_values(release, api.namespace, values, sets, chart) if values else None
    yield from check(api, release, needs)


def check(api: Api, release: str, needs: rendered.Rendered | None = None) -> Iterator[Line]:
    """Look at what the release needs, and at its claims and pods as far as there are any.

    ``needs``: None for what the installed release does, where it still has a launcher that tells.

    Raises:
        Failure: the API server does not answer, or the caller may not read pods.
        ConfigurationError: there is no such release.
    """
    selector = of_release(release)
    try:
        needs = needs or rendered.from_release(api, release)
        if needs:
            yield from preflight(api, needs)
        pods, _ = api.list_pods(selector)
        claims = (
            []
            if needs
            else api.list_objects(of_kind("PersistentVolumeClaim", api.namespace), selector)
        )
        if not (needs or claims or pods):
            raise ConfigurationError(
                f"there is nothing of a release {release} in namespace {api.namespace}"
            )
        yield from (claim(found) for found in claims)
        for pod in pods:
            yield from _pod(api, pod)
    except ApiError as error:
        raise failure(f"look at release {release} in namespace {api.namespace}", error) from None


def _pod(api: Api, pod: Mapping[str, Any]) -> Iterator[Line]:
    state = read(pod)
    what = f"{state.component or 'other'} pod {state.name}"
    if state.running and not state.deleting:
        yield fine(f"{what} runs")
    elif state.finding is None or state.finding.reason.name == "Completed":
        yield fine(f"{what} is {'being deleted' if state.deleting else state.phase}")
    elif (
        state.component != "worker"
        and state.finding.reason.name in OF_A_WORKER
        and state.finding.detail
    ):
        yield wanted(f"{what} ended: {state.finding.detail}")
    else:
        yield wanted(f"{what}: {state.finding}")
    if state.workflow and not state.workflow.ended:
        yield wanted(f"{what}: its workflow container is not started: {state.workflow.finding}")
    if state.running or state.ended:
        return
    events = sorted(api.pod_events(state.uid), key=event_time)
    latest = {event["reason"]: event for event in events if event["reason"] in TELLING}
    for reason, event in latest.items():
        yield wanted(f"{what}: {reason}: {explain(event.get('message', ''))}")
