"""The kinds of texts in a values file, and the words in which Helm refuses any other text.

Helm prints the pattern that a text does not match, and few readers know what a pattern means. Of a
JSON Schema's constant it prints the constant: `value must be 'a quantity such as 500m, 2 or 4Gi'`.
So a rule here is a pattern with its words, and its JSON Schema demands the words as a constant
where the pattern does not fit.

No pattern looks ahead: Helm's validator has Go's regular expressions, which cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import StringConstraints, WithJsonSchema

from k8s_parsl.config.helm_yaml import BARE
from k8s_parsl.config.names import APP, APP_IS, LABEL, LABEL_IS, NAME_IS, RELATIVE_PATH_IS

JSON = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """A pattern that a text must match, or must not, and what the text must be instead."""

    pattern: str
    must_be: str
    forbidden: bool = False

    def followed_by(self, next_rule: JSON) -> JSON:
        """Return the JSON Schema of this rule and, where the text keeps it, of the next one."""
        refusal: JSON = {"const": self.must_be}
        if self.forbidden:
            # Any pattern matches null, which is not a text.
            matches: JSON = {"type": "string", "pattern": self.pattern}
            schema: JSON = {"if": matches, "then": refusal}
            if next_rule:
                schema["else"] = next_rule
            return schema
        schema = {"if": {"pattern": self.pattern}, "else": refusal}
        if next_rule:
            schema["then"] = next_rule
        return schema


def rules_schema(*rules: Rule) -> JSON:
    """Return the JSON Schema that keeps all rules; Helm prints the first broken one alone."""
    schema: JSON = {}
    for rule in reversed(rules):
        schema = rule.followed_by(schema)
    return schema


def text(*rules: Rule, longest: int | None = None) -> WithJsonSchema:
    """Mark a field as a text that keeps these rules.

    Args:
        rules: In the order in which they are checked.
        longest: Characters at most.
    """
    schema: JSON = {"type": "string", **rules_schema(*rules)}
    if longest is not None:
        schema["maxLength"] = longest
    return WithJsonSchema(schema)


# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
QUANTITY: JSON = {
    "type": ["string", "number"],
    **rules_schema(
        Rule(
            r"^[0-9]+(\.[0-9]+)?([munkMGTPE]|[KMGTPE]i|[eE][0-9]+)?$",
            "a quantity such as 500m, 2 or 4Gi",
        )
    ),
}
Quantity = Annotated[str | float, WithJsonSchema(QUANTITY)]

# RFC 1123 subdomain.
Name = Annotated[str, text(Rule(r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", NAME_IS), longest=253)]
OptionalName = Annotated[
    str, text(Rule(r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$", f"{NAME_IS}, or empty"), longest=253)
]

# A key of a ConfigMap or a Secret, so a file of one folder.
DATA_KEY = r"^[-._a-zA-Z0-9]+$"
DataKey = Annotated[
    str,
    text(Rule(DATA_KEY, "a key of letters, digits, dots, hyphens and underscores"), longest=253),
]
# The key of a map, so with pydantic's own constraints: `KEYS` below has its words.
FileName = Annotated[str, StringConstraints(pattern=DATA_KEY, max_length=253)]

IMAGE_IS = "a repository such as registry.example.org/group/name, in small letters"
ImageName = Annotated[str, text(Rule(r"^[a-z0-9]([-._/:]*[a-z0-9])*$", IMAGE_IS))]
OptionalImageName = Annotated[
    str, text(Rule(r"^([a-z0-9]([-._/:]*[a-z0-9])*)?$", f"{IMAGE_IS}, or empty"))
]
Digest = Annotated[
    str, text(Rule(r"^(sha256:[0-9a-f]{64})?$", "sha256: and 64 hex digits, or empty"))
]
# Workflow and workers could run different code in what has one name as a run.
FIXED_TAG = "a fixed tag such as 1.4.2, or none beside a digest: latest can change between two pods"
Tag = Annotated[
    str,
    text(
        Rule(r"^[\w.-]*$", "a tag of letters, digits, dots, hyphens and underscores"),
        Rule(r"^latest$", FIXED_TAG, forbidden=True),
        longest=128,
    ),
]
ONE_IMAGE = Rule(r"^\S+$", "an image reference without spaces")
# With the tag `latest`, or, as that means the same, with neither tag nor digest.
NOT_LATEST = Rule(r"^([^@]*:latest|([^@]*/)?[^/:@]+)$", FIXED_TAG, forbidden=True)
ImageReference = Annotated[str, text(ONE_IMAGE)]
PodImage = Annotated[str, text(ONE_IMAGE, NOT_LATEST)]
# What a container's command begins with.
Command = Annotated[
    str, text(Rule(r"^[^\s-]\S*$", "one command such as python3, without arguments"))
]

# No step of a path is `.` or `..`.
RootPath = Annotated[
    str,
    text(
        Rule(
            r"^(/\.{0,2}[^./\s][^/\s]*)+$",
            "an absolute path such as /volumes/group/name, without spaces and without . or ..",
        )
    ),
]
RelativePath = Annotated[
    str, text(Rule(r"^\.{0,2}[^./][^/]*(/\.{0,2}[^./][^/]*)*$", RELATIVE_PATH_IS))
]

# What ceph_key accepts: TLS, except for a proxy in the same pod.
VaultUrl = Annotated[
    str,
    text(
        Rule(
            r"^(https://[^\s/?#@]+|http://(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]+)?)(/[^\s?#@]*)?$",
            "https://HOST:PORT (http:// only for localhost), without user name and query",
        )
    ),
]
# https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax
Schedule = Annotated[
    str,
    text(
        Rule(
            r"^(|@[a-z]+|@every \S+|\S+( \S+){4})$",
            "a CronJob's schedule such as 0 3 * * * or @daily, or empty",
        )
    ),
]
# https://pkg.go.dev/time#ParseDuration
Duration = Annotated[
    str,
    text(
        Rule(r"^(0|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+)$", "a duration such as 30m or 1h30m, or 0")
    ),
]
Cidr = Annotated[
    str, text(Rule(r"^[0-9a-fA-F.:]+/[0-9]{1,3}$", "an address range such as 192.0.2.0/24"))
]

CephUserID = Annotated[
    str,
    text(
        Rule(r".", "the name of a Ceph user"),
        Rule(r"^client\.", "the name without client.", forbidden=True),
    ),
]
# Base64 of a header of 12 bytes and a key of 16 or more (ceph_key). Such a text begins with A; once
# more in base64 it begins with Q and one of S to X.
CephKey = Annotated[
    str,
    text(
        Rule(
            r"^([A-Za-z0-9+/]{4}){9,}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$",
            "what `ceph auth get-key client.USER` prints",
        ),
        Rule(
            r"^Q[S-X]",
            "base64 once: what `ceph auth get-key client.USER` prints",
            forbidden=True,
        ),
    ),
]
Certificates = Annotated[
    str,
    text(
        Rule(r"^$|-----BEGIN CERTIFICATE-----", "certificates in PEM form"),
        Rule(r"PRIVATE KEY-----", "certificates alone, without a private key", forbidden=True),
    ),
]


@dataclass(frozen=True)
class KeyRule:
    """What a map's key has that does not match the pattern of its keys, and what it must be."""

    broken_by: str
    must_be: str


KEYS = {
    LABEL: KeyRule("[^-a-z0-9]|^-|-$|^$", LABEL_IS),
    APP: KeyRule(r"[\x00-/:-@\[-^`{-\x7F]|^[0-9]|^$", APP_IS),
    DATA_KEY: KeyRule(
        "[^-._a-zA-Z0-9]|^$",
        "under a name of letters, digits, dots, hyphens and underscores, without a folder",
    ),
}
"""The rule for the keys of a map, by the pattern that they match."""

NO_KEYS: JSON = {
    truth: {"const": f"under its own name, in quotes: YAML reads a key {words} as {truth}"}
    for truth, words in BARE.items()
}
"""Keys that no map has: Helm's YAML reads some words without quotes as true or false."""
