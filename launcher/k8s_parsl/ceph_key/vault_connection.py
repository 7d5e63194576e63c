"""The HTTP connection to Vault: its timeouts, its TLS, and what a failed connection means."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Any

import requests

from k8s_parsl.ceph_key.budget import Budget
from k8s_parsl_runtime.shared.errors import ConfigurationError

# The least that a request gets, also when the budget is spent: a token is always revoked.
LEAST_TIMEOUT_S = 2.0

# OpenSSL's reason for refusing a certificate, and what to change; the first match counts.
_CERTIFICATE = (
    (r"mismatch|not valid for", "vault.url: Vault's certificate is not for this name"),
    (r"expired|not yet valid", "Vault's certificate"),
)
_UNKNOWN_CA = "vault.caBundle (or caFile): no CA in it has signed Vault's certificate"
# OpenSSL's reasons where the server answers in plain HTTP.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")


class Session(requests.Session):
    """The session that hvac sends its requests with; it keeps the last answer's status.

    hvac's errors do not have the status. `verify` is set here and not on the client, since hvac
    lets a session's own setting win (hvac/adapters.py, its issue 991), and that is True: a private
    CA would not be known.
    """

    def __init__(self, ca_file: str, timeout: float, budget: Budget) -> None:
        """Make a session; it connects with the first request.

        Raises:
            ConfigurationError: the CA file cannot be used.
        """
        _check_ca(ca_file)
        super().__init__()
        self.verify = ca_file or True
        self.status = 0
        self._timeout = timeout
        self._budget = budget

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request that takes no longer than the budget lasts."""
        self.status = 0
        left = max(LEAST_TIMEOUT_S, self._budget.left())
        kwargs["timeout"] = min(self._timeout, left)
        response = super().request(*args, **kwargs)
        self.status = response.status_code
        return response


def what_to_change(error: requests.RequestException) -> str:
    """Return what to change for a connection that no retry repairs; empty where one may."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate_refused(cause.verify_message)
        if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            return "vault.url: the server there does not speak TLS"
    if isinstance(error, requests.exceptions.InvalidURL):
        return "vault.url: not a valid address"
    return ""


def _certificate_refused(reason: str) -> str:
    for pattern, message in _CERTIFICATE:
        if re.search(pattern, reason):
            return f"{message}: {reason}"
    return f"{_UNKNOWN_CA}: {reason}"


def why_no_answer(error: requests.RequestException) -> str:
    """Return the innermost reason, the one that says something: `Connection refused`."""
    if isinstance(error, requests.exceptions.Timeout):
        return "timed out"
    reason = type(error).__name__
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            reason = str(cause.strerror)
    return reason


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and those that it was made from, the outermost first.

    urllib3 keeps them in `reason` and in the arguments of its own errors.
    """
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        current = waiting.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__]
        waiting += [*current.args, getattr(current, "reason", None)]


def _check_ca(file: str) -> None:
    if not file:
        return
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        raise ConfigurationError(f"vault.caFile: {file} holds no certificate in PEM form") from None
    except OSError as error:
        raise ConfigurationError(f"vault.caFile: {file}: {error.strerror}") from None
