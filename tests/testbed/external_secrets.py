"""A real External Secrets Operator beside the cluster, for the chart's ExternalSecret.

Its controllers of stores and ExternalSecrets, with Vault as the one provider that is compiled in;
without its webhook, which checks what a user writes and changes nothing. The journal knows the
process, so that `down` ends it; it watches the whole cluster, so the tests that used it end it too.
"""

import sys
import time
from dataclasses import dataclass

from testbed import client, cluster, controlplane, layout, parts, processes
from testbed.layout import TestbedError
from testbed.vault import kubectl

NAME = "external-secrets"
METRICS_PORT = 18285
HEALTH_PORT = 18286
READY_SECONDS = 60.0
KINDS = ("externalsecrets", "secretstores", "clustersecretstores")


@dataclass(frozen=True)
class ExternalSecrets:
    """The running operator."""

    def stop(self) -> None:
        """End it; what is in the cluster stays, without a controller."""
        known = cluster.journal().processes()
        processes.stop([known[NAME]] if NAME in known else [])


def ensure() -> ExternalSecrets:
    """Return the running testbed's operator; compile and start it if it does not run."""
    if not cluster.running():
        raise TestbedError("the testbed does not run: start it with make cluster")
    with cluster.locked(NAME):
        identity = cluster.journal().processes().get(NAME)
        if identity is None or not identity.alive():
            _start()
    return ExternalSecrets()


def _start() -> None:
    program = parts.ensure(NAME) / NAME
    started = time.monotonic()
    # The CRDs are in no package.
    kinds = (parts.sources(NAME, parts.PARTS[NAME].changed) / "config" / "crds" / "bases").glob(
        "*external-secrets.io_*.yaml"
    )
    kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        *(f"--filename={file}" for file in sorted(kinds)),
    )
    served = [f"/apis/external-secrets.io/v1/{kind}" for kind in KINDS]
    processes.wait_for(
        f"{NAME}: its kinds",
        lambda: all(map(client.answers, served)),
        seconds=READY_SECONDS,
        processes={},
    )
    command = [
        *(
            str(program),
            f"--metrics-addr=127.0.0.1:{METRICS_PORT}",
            f"--live-addr=127.0.0.1:{HEALTH_PORT}",
        ),
        *(f"--enable-{kind}-reconciler=false" for kind in OTHERS),
    ]
    identity = controlplane.launch(
        cluster.journal(), NAME, command, {"KUBECONFIG": str(layout.kubeconfig())}
    )
    processes.wait_for(NAME, _healthy, seconds=READY_SECONDS, processes={NAME: identity})
    print(f"{NAME}: ready after {time.monotonic() - started:.1f} s", file=sys.stderr)


OTHERS = ("push-secret", "cluster-push-secret", "cluster-external-secret")


def _healthy() -> bool:
    return client.healthy(f"http://127.0.0.1:{HEALTH_PORT}/healthz")
