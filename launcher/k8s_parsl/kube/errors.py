"""The errors of a request to the API server, and the exit code of a run that they end."""

from __future__ import annotations

from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    Failure,
    PermissionDenied,
    Unavailable,
    one_line,
)

# Who lacks the permission: in a pod its ServiceAccount, with a kubeconfig the person who calls.
ACCOUNT_LACKS_PERMISSION = "the launcher's ServiceAccount has no permission"
CALLER_LACKS_PERMISSION = "you, the kubeconfig's user, have no permission"


class ApiError(Exception):
    """The API server answered with an error.

    Args:
        code: The HTTP status.
        text: The server's message.
        retry_after: Seconds to wait before the next try, if the server has named them.
        lacks_permission: Who asked, in words for the case that permission is what is missing.
    """

    def __init__(
        self,
        code: int,
        text: str,
        retry_after: float | None = None,
        lacks_permission: str = ACCOUNT_LACKS_PERMISSION,
    ) -> None:
        self.code = code
        self.text = one_line(text)
        self.retry_after = retry_after
        self.lacks_permission = lacks_permission
        super().__init__(f"{code} {self.text}")

    @property
    def is_final(self) -> bool:
        """Whether the same request would get the same answer."""
        return self.code < 500 and self.code != 429

    @property
    def no_right_to_create(self) -> bool:
        """Whether RBAC refused to create an object.

        Admission (a LimitRange, a missing PriorityClass and others) answers 403, too; only RBAC
        uses these words.
        """
        return self.code == 403 and "cannot create resource" in self.text


class ApiUnreachable(ApiError):
    """The API server did not answer; `text` says what is wrong with the connection."""

    def __init__(self, text: str) -> None:
        super().__init__(0, text)

    def __str__(self) -> str:
        return self.text

    @property
    def is_final(self) -> bool:
        """Return False: the server may answer the next request."""
        return False


def failure(doing: str, error: ApiError) -> Failure:
    """Return the Failure that ends the run because of an error of the API server.

    Args:
        doing: What did not work, such as `list the release's pods`.
        error: The last one, after all retries.
    """
    if error.code in (401, 403):
        return PermissionDenied(f"{doing}: {error.lacks_permission}: {error.text}")
    if error.is_final:
        return ConfigurationError(f"{doing}: {error}")
    return Unavailable(f"{doing}: the API server does not answer: {error}")
