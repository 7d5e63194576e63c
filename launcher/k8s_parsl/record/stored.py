"""What a record on a volume may hold, as a model: any pod with the volume may have written it.

Strict in kinds, with bounds on numbers; the bound of its texts and lists is that of the file
(`report.RECORD_BYTES`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from k8s_parsl import untrusted
from k8s_parsl_runtime.shared.attempts import ATTEMPTS

# Of the format. 1 has no `version`, `release` and `pod_seconds`.
VERSION = 2
Number = Annotated[int, Field(ge=1, le=ATTEMPTS)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Seconds = Annotated[float, Field(ge=0, le=10**15, allow_inf_nan=False)]
ExitStatus = Annotated[int, Field(ge=0, le=255)]
# Of an app, or of a task, and what is said of it.
Said = tuple[str, str]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Row(_Model):
    """What the tasks of one app did."""

    app: str
    submitted: Count = 0
    done: Count = 0
    failed: Count = 0
    cancelled: Count = 0
    retried: Count = 0
    median_s: Seconds | None = None
    longest_s: Seconds | None = None
    total_s: Seconds = 0.0
    waited_s: Seconds = 0.0


class _Attempt(_Model):
    """An attempt before this one."""

    attempt: Number
    launcher: str = ""
    started: str = ""
    ended: str = ""
    status: str = ""
    # Empty where the record of that attempt could not be read.
    exit_code: ExitStatus | Literal[""] | None = None
    message: str = ""
    tasks: list[_Row] = []
    pod_seconds: Seconds | None = None


class _Resumed(_Model):
    """What the calls of one app had of an older run."""

    app: str
    taken: Count = 0
    changed: Count = 0
    other: Count = 0
    new: Count = 0


class _Stored(_Model):
    """The fields of `report.Record`, each with what it may be; a missing one has its default."""

    run: str
    installation: str
    workflow: str
    versions: str
    started: str
    code: str = ""
    image: str = ""
    status: str = ""
    ended: str = ""
    seconds: Seconds = 0.0
    exit_code: ExitStatus | None = None
    message: str = ""
    tasks: list[_Row] = []
    failures: list[Said] = []
    workers: list[str] = []
    long_tasks: list[Said] = []
    reasons: dict[str, Count] = {}
    result: Any = None
    workflow_status: ExitStatus | None = None
    last_lines: list[str] = []
    attempt: Number = 1
    launcher: str = ""
    attempts: list[_Attempt] = []
    retry_lost_tasks: str | list[str] = ""
    release: str = ""
    resumed_from: str = ""
    work_of: str = ""
    arguments: str = ""
    resumed: list[_Resumed] = []
    pod_seconds: Seconds | None = None
    version: Annotated[int, Field(ge=1, le=VERSION)] = 1


def attempts(given: list[Any]) -> list[dict[str, Any]]:
    """Return those of a list that are attempts as a record has them."""
    found = []
    for one in given:
        with suppress(ValidationError):
            found.append(_Attempt.model_validate(one).model_dump())
    return found


def read(content: bytes) -> dict[str, Any]:
    """Return the fields of a record that are in ``content``.

    Raises:
        ValueError: it is not a record; says why in a few words.
    """
    try:
        record = _Stored.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(untrusted.refusal(error, "record")) from None
    # The result is not copied: it may be large.
    values = record.model_dump(exclude={"result"}) | {"result": record.result}
    return {name: values[name] for name in {*record.model_fields_set, "version"}}
