"""Who this pod is: the facts that only the cluster knows, by the Downward API.

Apart from `settings`, because nobody chooses them: the chart asks kubelet for them
(chart/templates/launcher.yaml).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from k8s_parsl_runtime.shared.errors import ConfigurationError, UsageError

PREFIX = "K8S_PARSL_"
# The run of `helm test` (chart/templates/tests/test.yaml); all others are 8 hex digits.
TEST = "test"
# The label that a worker pod gets from its launcher, and a launcher's pod from the chart.
RUN = "k8s-parsl/run"
# Where the chart mounts settings.yaml and worker-<executor>.yaml.
MOUNTED = Path("/etc/k8s-parsl")


def of_release(release: str, component: str = "") -> str:
    """Return the selector of what the chart makes for a release, or a part of it
    (chart/templates/_labels.tpl).

    The release's name alone is not enough: a release of another chart in this namespace may have
    the same one in its labels, and components of the same names.
    """
    labels = {"name": "k8s-parsl", "instance": release, "component": component}
    return ",".join(
        f"app.kubernetes.io/{label}={value}" for label, value in labels.items() if value
    )


@dataclass(frozen=True)
class Identity:
    """This launcher's pod and the release it belongs to."""

    release: str
    namespace: str
    pod_name: str
    pod_uid: str
    pod_ip: str
    # 8 hex digits: hash of the Job's spec, so of all that defines the run
    # (docs/dev/architecture.md, "Installation and run").
    run: str
    # Name of the release's one ConfigMap whose name never changes; its uid is the installation
    # (docs/dev/architecture.md, "Installation and run").
    installation: str
    # Name of the Secret that carries the run's certificates to the workers.
    certificates: str
    # Seconds between the pod's SIGTERM and its SIGKILL.
    grace: str = "60"
    # The uid of the workflow container, where the chart knows it; else that of this one.
    workflow_uid: str = ""

    @property
    def selector(self) -> str:
        """Of the release's launcher and worker pods, by all the labels that those have."""
        return f"{of_release(self.release)},app.kubernetes.io/component in (launcher,worker),{RUN}"

    def is_launcher(self, name: str) -> bool:
        """Whether a pod of this name was a launcher of this release: of a Job of its own, or of
        `helm test`.
        """
        if self.run == TEST:
            return name == self.pod_name
        job, found, _ = self.pod_name.rpartition("-launcher-")
        return bool(found) and name.startswith(job + found)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Identity:
        """Return the identity that the chart's environment variables give.

        Raises:
            UsageError: there is none of them, so this is no pod: the values files are missing.
            ConfigurationError: some are missing, so this is no pod of the chart's.
        """
        if not any(environment.get(PREFIX + field.name.upper()) for field in fields(cls)):
            raise UsageError("no values file given: k8s-parsl run -f values/local.yaml")
        facts = {}
        for field in fields(cls):
            name = PREFIX + field.name.upper()
            if not environment.get(name) and field.default is not MISSING:
                continue
            if not environment.get(name):
                raise ConfigurationError(
                    f"environment variable {name} is not set: the chart sets it in its pods"
                )
            facts[field.name] = environment[name]
        return cls(**facts)
