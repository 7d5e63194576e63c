"""Which pod this is: what only the cluster knows, by the Downward API.

This is apart from `settings`, because no user sets it: kubelet fills in the environment variables
that the chart declares (chart/templates/launcher.yaml).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from k8s_parsl_runtime.shared.errors import ConfigurationError, UsageError

PREFIX = "K8S_PARSL_"
# Where the chart puts what Secret `notify.secret` holds, and a laptop's user the same.
NOTIFY_URLS = f"{PREFIX}NOTIFY_URL"
# The run of `helm test` (chart/templates/tests/test.yaml); all others are 8 hex digits.
TEST = "test"
# The label of the run: a worker pod has it from its launcher, a launcher's pod from the chart.
RUN = "k8s-parsl/run"
# Where the chart mounts settings.yaml and worker-<executor>.yaml.
MOUNTED = Path("/etc/k8s-parsl")


def of_release(release: str, component: str = "") -> str:
    """Return the label selector of a release's objects (chart/templates/_labels.tpl).

    The release's name alone is not enough: a release of another chart in this namespace may have
    the same name in its labels, and the same components.

    Args:
        release: Its name.
        component: Such as `launcher`; empty for all of them.
    """
    selector = f"app.kubernetes.io/name=k8s-parsl,app.kubernetes.io/instance={release}"
    if component:
        selector += f",app.kubernetes.io/component={component}"
    return selector


@dataclass(frozen=True)
class Identity:
    """This launcher's pod and the release it belongs to."""

    release: str
    namespace: str
    pod_name: str
    pod_uid: str
    pod_ip: str
    # 8 hex digits: the hash of the Job's spec, which holds all that defines the run
    # (docs/dev/architecture.md, "Installation and run").
    run: str
    # The name of the ConfigMap that stays the same in all upgrades; its uid is the installation
    # (docs/dev/architecture.md, "Installation and run").
    installation: str
    # The name of the Secret with the run's certificates for the workers.
    certificates: str
    # Seconds between the pod's SIGTERM and its SIGKILL.
    grace: str = "60"
    # The uid (user ID) of the workflow container, if the chart knows it; else that of this one.
    workflow_uid: str = ""

    @property
    def selector(self) -> str:
        """The label selector of the release's launcher and worker pods."""
        return f"{of_release(self.release)},app.kubernetes.io/component in (launcher,worker),{RUN}"

    def is_launcher(self, name: str) -> bool:
        """Return whether a pod of this name is, or was, a launcher of the same Job.

        For `helm test`, which has no Job, only this pod is.
        """
        if self.run == TEST:
            return name == self.pod_name
        job, found, _ = self.pod_name.rpartition("-launcher-")
        return bool(found) and name.startswith(job + found)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Identity:
        """Return the identity by the environment variables that the chart sets.

        Raises:
            UsageError: none of them is set, so this is not a pod, and a values file is missing.
            ConfigurationError: some are not set, so the chart did not create this pod.
        """
        variables = {field: PREFIX + field.name.upper() for field in fields(cls)}
        if not any(environment.get(variable) for variable in variables.values()):
            raise UsageError("no values file given: k8s-parsl run -f values/local.yaml")
        facts = {}
        for field, variable in variables.items():
            value = environment.get(variable)
            if value:
                facts[field.name] = value
            elif field.default is MISSING:
                raise ConfigurationError(
                    f"environment variable {variable} is not set: the chart sets it in its pods"
                )
        return cls(**facts)
