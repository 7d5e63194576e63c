"""Who this pod is: the facts that only the cluster knows, by the Downward API.

Apart from `settings`, because nobody chooses them: the chart asks kubelet for them (chart/templates/launcher.yaml).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from k8s_parsl_runtime.shared.errors import ConfigurationError

PREFIX = "K8S_PARSL_"
# The run of `helm test` (chart/templates/tests/test.yaml); all others are 8 hex digits.
TEST = "test"
# Where the chart mounts settings.yaml and worker-<executor>.yaml.
MOUNTED = Path("/etc/k8s-parsl")


@dataclass(frozen=True)
class Identity:
    """This launcher's pod and the release it belongs to."""

    release: str
    namespace: str
    pod_name: str
    pod_uid: str
    pod_ip: str
    # 8 hex digits: hash of the Job's spec, so of all that defines the run (design D11).
    run: str
    # Name of the release's one ConfigMap whose name never changes; its uid is the installation (design D10).
    installation: str
    # Name of the Secret that carries the run's certificates to the workers.
    certificates: str
    # Seconds between the pod's SIGTERM and its SIGKILL.
    grace: str = "60"
    # The uid of the workflow container, where the chart knows it; else that of this one.
    workflow_uid: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Identity:
        """Identity from the variables that the chart sets.

        Raises:
            ConfigurationError: one is missing, so this is no pod of the chart's.
        """
        facts = {}
        for field in fields(cls):
            name = PREFIX + field.name.upper()
            if not environment.get(name) and field.default is not MISSING:
                continue
            if not environment.get(name):
                raise ConfigurationError(
                    f"no values file, and {name} is not set: on a laptop, name one, as in "
                    "k8s-parsl run -f values/local.yaml; in a pod, the chart sets it"
                )
            facts[field.name] = environment[name]
        return cls(**facts)
