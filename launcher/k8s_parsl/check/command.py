"""The command `k8s-parsl check`: what a release needs or waits for, and what to change.

It helps while none of our code runs: before an install (`preflight`), and while a pod is not
started. The reason of a volume that cannot be mounted, for example, is in events only, in the words
of the mount's program. It uses the caller's permissions, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from k8s_parsl.check import release as rendered
from k8s_parsl.check.preflight import preflight
from k8s_parsl.check.references import pvc_state
from k8s_parsl.check.result import Result, ok, problem
from k8s_parsl.identity import MOUNTED, Identity, of_release
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.errors import ApiError, failure
from k8s_parsl.kube.mount_errors import explain
from k8s_parsl.kube.pod_state import PodState, event_time, read
from k8s_parsl.kube.resource import of_kind
from k8s_parsl_runtime.shared.errors import ConfigurationError, UsageError

# The name of a release if only its values are given, as in the documentation.
RELEASE = "pdgrun"
# Events that say why a pod is not started though it has a node.
TELLING = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "Failed")

# Reasons whose texts are about a worker. Another pod has its own last line, which says it better.
OF_A_WORKER = ("WorkerConfiguration", "WorkerPermission", "Error")


def results(
    environment: Mapping[str, str],
    release: str,
    namespace: str,
    values: Sequence[str],
    sets: Sequence[str],
    chart: str,
) -> Iterator[Result]:
    """Run `check` for the command line.

    In a launcher's pod it checks the pod's own release, elsewhere it uses the kubeconfig.

    Raises:
        Failure: see `check`.
        UsageError: neither a release nor a values file is named, or helm rejects the values.
    """
    if environment.get("K8S_PARSL_POD_UID"):
        identity = Identity.from_environment(environment)
        mounted = rendered.in_pod(identity.release, identity.namespace, MOUNTED)
        yield from check(Api(identity.namespace), identity.release, mounted)
        return
    if not release and not values:
        raise UsageError(
            "no release given: name an installed release, or a values file (-f) of a new one"
        )
    api = Api(namespace, kubeconfig=True)
    release = release or RELEASE
    needs = None
    if values:
        needs = rendered.from_values(release, api.namespace, values, sets, chart)
    yield from check(api, release, needs)


def check(api: Api, release: str, needs: rendered.Rendered | None = None) -> Iterator[Result]:
    """Check what a release needs, and its PVCs and pods if there are any.

    Args:
        api: In the release's namespace.
        release: Its name.
        needs: What it needs; None for the installed release, if that still has a launcher Job.

    Raises:
        Failure: the API server does not answer, or the caller has no permission to list pods.
        ConfigurationError: there is no such release.
    """
    try:
        yield from _check(api, release, needs)
    except ApiError as error:
        raise failure(f"look at release {release} in namespace {api.namespace}", error) from None


def _check(api: Api, release: str, needs: rendered.Rendered | None) -> Iterator[Result]:
    selector = of_release(release)
    needs = needs or rendered.from_release(api, release)
    if needs:
        yield from preflight(api, needs)
    pods, _ = api.list_pods(selector)
    pvcs = []
    if not needs:
        # Else `preflight` has checked them.
        pvcs = api.list_objects(of_kind("PersistentVolumeClaim", api.namespace), selector)
    if not (needs or pvcs or pods):
        raise ConfigurationError(f"there is no release {release} in namespace {api.namespace}")
    for pvc in pvcs:
        yield pvc_state(pvc)
    for pod in pods:
        yield from _pod(api, read(pod))


def _pod(api: Api, pod: PodState) -> Iterator[Result]:
    what = f"{pod.component or 'other'} pod {pod.name}"
    yield _pod_result(what, pod)
    if pod.workflow and not pod.workflow.ended:
        yield problem(f"{what}: its workflow container is not started: {pod.workflow.finding}")
    if not pod.running and not pod.ended:
        yield from _events(api, what, pod)


def _pod_result(what: str, pod: PodState) -> Result:
    if pod.running and not pod.deleting:
        return ok(f"{what} runs")
    finding = pod.finding
    if finding is None or finding.reason.name == "Completed":
        return ok(f"{what} is {'being deleted' if pod.deleting else pod.phase}")
    is_worker = pod.component == "worker"
    if not is_worker and finding.reason.name in OF_A_WORKER and finding.detail:
        return problem(f"{what} ended: {finding.detail}")
    return problem(f"{what}: {finding}")


def _events(api: Api, what: str, pod: PodState) -> Iterator[Result]:
    """Yield the newest event of each reason why a pod is not started."""
    messages = {}
    for event in sorted(api.pod_events(pod.uid), key=event_time):
        if event["reason"] in TELLING:
            messages[event["reason"]] = event.get("message", "")
    for reason, message in messages.items():
        yield problem(f"{what}: {reason}: {explain(message)}")
