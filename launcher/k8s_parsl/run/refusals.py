"""What the API server's refusal to create a worker pod means."""

from __future__ import annotations

from k8s_parsl.kube.errors import ApiError
from k8s_parsl.kube.reasons import Finding, find

# Words of the refusal, and the reason that they stand for; the first that matches counts.
BY_WORDS = (
    ("exceeded quota", "QuotaExceeded"),
    ("admission webhook", "Refused"),
    ("violates PodSecurity", "Refused"),
    ("ValidatingAdmission", "Refused"),
)
# The API server does not take the manifest as it is.
INVALID = (400, 413, 422)


def refusal(error: ApiError) -> Finding | None:
    """Return why a pod cannot be created; None where another try may create it."""
    for words, reason in BY_WORDS:
        if words in error.text:
            return find(reason, error.text)
    if error.no_right_to_create:
        return find("Forbidden", error.text)
    if error.code == 403:
        return find("Refused", error.text)
    if error.code in INVALID:
        return find("Invalid", error.text)
    return None
