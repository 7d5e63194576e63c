"""Calls of Vault's API, tried again for as long as that may help."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import hvac
import requests
from pydantic import SecretStr

from k8s_parsl.ceph_key import vault_connection, vault_errors
from k8s_parsl.ceph_key.budget import Budget
from k8s_parsl.ceph_key.settings import VaultSettings
from k8s_parsl.ceph_key.vault_errors import Refused
from k8s_parsl_runtime.shared.errors import ConfigurationError, Unavailable, one_line

log = logging.getLogger(__name__)


class _NotReady(Exception):
    """Vault does not answer, or not yet as it should; the next try may be better."""


class Calls:
    """An hvac client and how to call it; what it logs and raises shows no credential."""

    def __init__(self, settings: VaultSettings, budget: Budget) -> None:
        """Make a client; it connects with the first call.

        Raises:
            ConfigurationError: the CA file cannot be used.
        """
        self._url = settings.url
        self._budget = budget
        self._session = vault_connection.Session(settings.ca_file, settings.timeout, budget)
        # token="": hvac would take one from VAULT_TOKEN or ~/.vault-token.
        self.client = hvac.Client(
            settings.url, token="", namespace=settings.namespace or None, session=self._session
        )
        self._hidden: list[SecretStr] = []

    def hide(self, credential: SecretStr) -> None:
        """Show ``...`` for a credential from now on; approle repeats a secret ID in an answer."""
        self._hidden.append(credential)

    def answer(self, call: Callable[[], Any]) -> dict[str, Any]:
        """Return the answer of a call of the client, tried again within the budget.

        Raises:
            Refused: the answer is no.
            Unavailable: there was no answer within the budget.
            ConfigurationError: there never will be one, as for a wrong certificate.
        """
        while True:
            try:
                return self._attempt(call)
            except _NotReady as error:
                reason = str(error)
            if not self._budget.wait(reason):
                raise Unavailable(f"{reason} (tried for {self._budget.seconds:.0f} s)")

    def revoke_token(self) -> None:
        """Revoke the client's token, in one try; where that fails, the log says so."""
        try:
            self.client.auth.token.revoke_self()
        except (hvac.exceptions.VaultError, requests.RequestException) as error:
            log.warning(
                "the Vault token could not be revoked and stays valid until it expires: %s",
                self._safe(self._why_not_ready(error)),
            )

    def _attempt(self, call: Callable[[], Any]) -> dict[str, Any]:
        try:
            answer = call()
        except hvac.exceptions.VaultError as error:
            status = self._session.status
            text = _text(error)
            if vault_errors.may_pass(status, text):
                raise _NotReady(self._why_not_ready(error)) from None
            raise Refused(status, text, self._safe(text), error.json) from None
        except requests.RequestException as error:
            if change := vault_connection.what_to_change(error):
                raise ConfigurationError(f"{change} ({self._url})") from None
            raise _NotReady(self._why_not_ready(error)) from None
        if not isinstance(answer, dict):
            # Some other server's page, with 200.
            raise ConfigurationError(f"vault.url: the server at {self._url} is not Vault")
        return answer

    def _why_not_ready(self, error: Exception) -> str:
        vault = f"Vault at {self._url}"
        if isinstance(error, requests.RequestException):
            reason = vault_connection.why_no_answer(error)
            return f"{vault} does not answer: {reason}; check vault.url, DNS and NetworkPolicies"
        shown = self._safe(_text(error))
        return f"{vault} {vault_errors.not_ready(self._session.status, shown)}"

    def _safe(self, text: str) -> str:
        for credential in self._hidden:
            text = text.replace(credential.get_secret_value(), "...")
        return text


def _text(error: Exception) -> str:
    """Return Vault's own words in an error of hvac's, on one line."""
    errors = getattr(error, "errors", None) or []
    return one_line(", ".join(errors) or str(error.args[0] or ""))
