"""The command `k8s-parsl ceph-key`: a Ceph user's key, from Vault into one Secret.

Kubelet mounts CephFS with that Secret, so it has to be there before any pod with the volume. The
command runs in a Job before and apart from launcher and workers (docs/dev/architecture.md, "The
Ceph key").
"""

from __future__ import annotations

import logging
import signal
from pathlib import Path

from k8s_parsl.ceph_key.budget import Budget
from k8s_parsl.ceph_key.key import CephKey, check_key
from k8s_parsl.ceph_key.secret import Writer, manifest
from k8s_parsl.ceph_key.settings import CephKeySettings, KeyKv
from k8s_parsl.ceph_key.vault import Reading, Vault
from k8s_parsl.kube.api import Api
from k8s_parsl.stopping import handling_signals, interrupt
from k8s_parsl_runtime.shared.errors import DataError

log = logging.getLogger(__name__)


def in_pod(config: Path) -> None:
    """Write the Secret that ``config`` names.

    Raises:
        Failure: it could not be written, or Vault has no valid key.
    """
    logging.getLogger("k8s_parsl").setLevel("INFO")
    settings = CephKeySettings.from_file(config)
    # By an exception, so that the Vault token is revoked on the way out.
    with handling_signals((signal.SIGTERM,), interrupt):
        copy(settings, Api(settings.secret.namespace))


def copy(settings: CephKeySettings, api: Api) -> None:
    """Read the key, check it, write it, and log one line about what was done.

    Raises:
        Failure: see `in_pod`.
    """
    kv = settings.vault.kv
    budget = Budget(settings.time_budget)
    reading = Vault(settings.vault, budget).read()
    key = _key_of(reading, kv)
    for notice in key.notices:
        log.warning("%s/%s: %s", kv.mount, kv.path, notice)
    done = Writer(settings, api, budget).write(manifest(settings.secret, key, reading.version))
    version = "" if reading.version is None else f" version {reading.version}"
    log.info(
        "Secret %s %s: user %s, key sha256 %s, of %s",
        f"{settings.secret.namespace}/{settings.secret.name}",
        done,
        key.user_id,
        key.fingerprint,
        f"{kv.mount}/{kv.path}{version}",
    )


def _key_of(reading: Reading, kv: KeyKv) -> CephKey:
    place = f"{kv.mount}/{kv.path}"
    for setting, field in (("userIDKey", kv.user_id_key), ("userKeyKey", kv.user_key_key)):
        if field not in reading.data:
            fields = ", ".join(sorted(reading.data)) or "nothing"
            raise DataError(
                f"{place} has no field {field!r} (it has: {fields}): "
                f"write it, or set vault.kv.{setting}"
            )
    try:
        return check_key(reading.data[kv.user_id_key], reading.data[kv.user_key_key])
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
