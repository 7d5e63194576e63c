"""`k8s-parsl check`: what a release waits for, and what to change or to ask an administrator for.

For the time in which none of our code runs: a pod whose volume cannot be mounted says so in events alone, in the words
of the mount's program. Reads with the caller's own rights, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3

from k8s_parsl.errors import ConfigurationError, one_line
from k8s_parsl.mounts import explain
from k8s_parsl.pods import Api, ApiError, failure
from k8s_parsl.reasons import event_time, read

# Events that tell why a pod is not started though a node was found for it.
TELLING = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "Failed")


@dataclass(frozen=True)
class Line:
    """One finding: fine, or what to do about it."""

    fine: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok' if self.fine else '!!'}  {self.text}"


def check(api: Api, release: str) -> list[Line]:
    """Look at the release's claims and pods.

    Raises:
        Failure: the API server does not answer, or the caller may not read pods or claims.
        ConfigurationError: there is no such release.
    """
    selector = f"app.kubernetes.io/instance={release}"
    try:
        claims = api.list_claims(selector)
        pods, _ = api.list_pods(selector)
        lines = [_claim(claim) for claim in claims]
        for pod in pods:
            lines += _pod(api, pod)
    except (ApiError, urllib3.exceptions.HTTPError) as error:
        raise failure(f"look at release {release} in namespace {api.namespace}", error) from None
    if not lines:
        raise ConfigurationError(f"there is no claim and no pod of a release {release} in namespace {api.namespace}")
    return lines


def _claim(claim: Mapping[str, Any]) -> Line:
    name, phase = claim["metadata"]["name"], claim.get("status", {}).get("phase", "Pending")
    if "deletionTimestamp" in claim["metadata"]:
        return Line(
            fine=False,
            text=f"claim {name} is being deleted, and will be gone once no pod uses it: it is of an earlier install; "
            "wait for its end, then install again (helm uninstall --wait waits for it)",
        )
    if phase == "Bound":
        return Line(fine=True, text=f"claim {name} is bound to {claim['spec'].get('volumeName')}")
    if phase == "Lost":
        return Line(fine=False, text=f"claim {name} has lost its volume {claim['spec'].get('volumeName')}")
    volume = claim["spec"].get("volumeName")
    wanted = (
        f"PersistentVolume {volume} (an administrator makes it: admin.create)" if volume else "a volume of its class"
    )
    return Line(fine=False, text=f"claim {name} waits for {wanted}")


def _pod(api: Api, pod: Mapping[str, Any]) -> Iterator[Line]:
    state = read(pod)
    what = f"{state.component or 'other'} pod {state.name}"
    if state.running and not state.deleting:
        yield Line(fine=True, text=f"{what} runs")
    elif state.finding is None or state.finding.reason.name == "Completed":
        yield Line(fine=True, text=f"{what} is {'being deleted' if state.deleting else state.phase}")
    else:
        yield Line(fine=False, text=f"{what}: {state.finding}")
    if state.running or state.ended:
        return
    events = sorted(api.pod_events(state.uid), key=event_time)
    latest = {event["reason"]: event for event in events if event["reason"] in TELLING}
    for reason, event in latest.items():
        yield Line(fine=False, text=one_line(f"{what}: {reason}: {explain(event.get('message', ''))}"))
