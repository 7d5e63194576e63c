"""The messages that the workflow container sends, as models: each is bounded and checked.

k8s_parsl_runtime.shared.protocol says what each is for. A message is data from outside: nothing in
it is unpickled, run, or used as a path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, NotRequired

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetPydanticSchema,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
    with_config,
)

# Pydantic asks for it in place of `typing`'s, which is older in Python 3.11.
from typing_extensions import TypedDict

from k8s_parsl import untrusted
from k8s_parsl_runtime.shared.noted import PATH_BYTES
from k8s_parsl_runtime.shared.protocol import (
    APP_CHARACTERS,
    BLOCKS,
    LINKED,
    MADE,
    RESUMED_APPS,
    TEXT_CHARACTERS,
    ProtocolError,
)

Label = Annotated[str, StringConstraints(max_length=63)]
Number = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]
App = Annotated[str, StringConstraints(max_length=APP_CHARACTERS)]
Text = Annotated[str, StringConstraints(max_length=2 * TEXT_CHARACTERS)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Seconds = Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)]
# Since the epoch.
Moment = Annotated[float, Field(ge=0, le=10**11, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0, le=10**18)]
# The name of a worker pod, or of a laptop's worker pool.
Pod = Annotated[str, StringConstraints(max_length=253)]
# Milliseconds; those of moments are counted from the `since` of their group.
Milliseconds = Annotated[int, Field(ge=0, le=10**12)]
Moments = Annotated[int, Field(ge=-(10**14), le=10**14)]
# The fields of `k8s_parsl_runtime.shared.tries.Try`; of those without a default each try has a
# value.
_ALWAYS = {
    "id": Count,
    "number": Count,
    "outcome": Literal["done", "kept", "retried", "lost", "failed", "cancelled", "split"],
    "executor": Label,
    "submitted": Moments,
    "ended": Moments,
}
_SOMETIMES = {
    **dict.fromkeys(("launched", "sent", "began"), Moments),
    **dict.fromkeys(("seconds", "cpu", "delayed", "throttled"), Milliseconds),
    **dict.fromkeys(("peak", "arguments", "result", "read", "written"), Bytes),
    "pod": Pod,
    "worker": Annotated[int, Field(ge=0, le=10**6)],
    "calls": Count,
    "depends": Annotated[list[Count], Field(max_length=100)],
    "error": Annotated[str, StringConstraints(max_length=100)],
    "text": Text,
    "call": Annotated[str, StringConstraints(max_length=1000)],
}
# Tries of one group.
TRIES = 5000
# What a try has made: its task and its number, and of each output path, kind, size and SHA-256.
MadeFields = tuple[
    Count | None,
    Count,
    Annotated[
        list[
            tuple[
                Annotated[str, StringConstraints(max_length=PATH_BYTES)],
                Literal["file", "folder"],
                Bytes,
                Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")],
            ]
        ],
        Field(max_length=MADE),
    ],
]
# Numbers of tasks: the first and the last of each range.
Ranges = Annotated[list[tuple[Count, Count]], Field(max_length=5000)]
# Of an app: how many of its tasks wait for a permit, and for their retry.
WaitingFields = tuple[Count, Count]
# Of a task that runs: its number, that of its try, the executor, the pod, and since when.
RunningFields = tuple[Count, Count, Label, Pod, Moment]


_STRICT = ConfigDict(strict=True, extra="forbid")


class Model(BaseModel):
    """A message or a part of one: strict, and without unknown keys."""

    model_config = ConfigDict(frozen=True, **_STRICT)


class Fault(Model):
    """Why the run cannot go on."""

    code: Annotated[int, Field(ge=1, le=255)]
    text: Text


class Hello(Model):
    """The first message of each connection."""

    type: Literal["hello"]
    role: Literal["supervisor", "kernel"]
    protocol: int
    versions: Annotated[str, StringConstraints(max_length=100)] = ""
    fault: Fault | None = None


class Ready(Model):
    """The workflow container has looked at code, volumes and working directory."""

    type: Literal["ready"]
    fault: Fault | None = None
    linked: Annotated[list[Text], Field(max_length=LINKED)] = []
    renewed: Annotated[list[Text], Field(max_length=LINKED)] = []
    kept: Annotated[list[Text], Field(max_length=LINKED)] = []


class Notice(Model):
    """A message that only has a type."""

    type: Literal["stopped", "continued", "terminating"]


class Code(Model):
    """Which code the workflow is, where it is from no git repository."""

    type: Literal["code"]
    digest: Annotated[str, StringConstraints(max_length=200)]


class Ended(Model):
    """How the workflow's process ended (k8s_parsl_runtime.workflow.supervisor)."""

    type: Literal["ended"]
    status: Annotated[int, Field(ge=0, le=255)]
    signal: Annotated[str, StringConstraints(max_length=20)]
    asked: bool
    out_of_memory: bool
    lines: Annotated[list[Text], Field(max_length=100)]


class Submit(Model):
    """Make a worker pod."""

    type: Literal["submit"]
    executor: Label
    block: Number


class Blocks(Model):
    """Delete these worker pods, or let them end."""

    type: Literal["cancel", "retire"]
    executor: Label
    blocks: Annotated[list[Number], Field(max_length=BLOCKS)]


class Registered(Model):
    """A worker pod of this executor has registered."""

    type: Literal["registered"]
    executor: Label


def _columns(name: str, of: Callable[[Any], Any]) -> GetPydanticSchema:
    """Return the check of an object with fields of tries, by what ``of`` makes of their kinds."""
    fields = {field: NotRequired[of(kind)] for field, kind in (_ALWAYS | _SOMETIMES).items()}
    kind = with_config(_STRICT)(TypedDict(name, fields))  # type: ignore[operator]
    return GetPydanticSchema(lambda _, handler: handler(kind))


def _column(kind: Any) -> Any:
    return Annotated[list[kind], Field(min_length=1, max_length=TRIES)]


@with_config(_STRICT)
class Group(TypedDict):
    """Ends of tries of one app (`k8s_parsl_runtime.shared.grouped`)."""

    # In milliseconds since the epoch.
    since: Annotated[int, Field(ge=0, le=10**14)]
    # A value for each try; and the values in which all tries of the group agree.
    each: Annotated[dict[str, list[Any]], _columns("Each", _column)]
    same: Annotated[dict[str, Any], _columns("Same", lambda kind: kind)]


def _of_one_length(group: Group) -> Group:
    """Return a group that has for each of its tries what a try always has.

    Raises:
        ValueError: it is another one.
    """
    each = group["each"]
    if len({len(values) for values in each.values()}) != 1:
        raise ValueError("each: its columns have no length in common")
    missing = _ALWAYS.keys() - each.keys() - group["same"].keys()
    if missing or "id" not in each:
        raise ValueError(f"no {', '.join(sorted(missing))}")
    return group


def _kind(event: Any) -> str:
    """Return the kind of a task's event, which is its first entry."""
    is_one = isinstance(event, list | tuple) and len(event) > 0
    return str(event[0]) if is_one else ""


Tries = Annotated[Group, AfterValidator(_of_one_length)]


class Tasks(Model):
    """What tasks did."""

    type: Literal["tasks"]
    events: Annotated[
        list[
            # By its kind: to try one after the other takes five times as long.
            Annotated[
                Annotated[tuple[Literal["tries"], App, Tries], Tag("tries")]
                | Annotated[tuple[Literal["made"], App, MadeFields], Tag("made")]
                | Annotated[tuple[Literal["submitted"], App, Ranges], Tag("submitted")]
                | Annotated[tuple[Literal["running"], App, RunningFields], Tag("running")]
                | Annotated[tuple[Literal["waiting"], App, WaitingFields], Tag("waiting")]
                | Annotated[tuple[Literal["long"], App, Text], Tag("long")],
                Discriminator(_kind),
            ]
        ],
        Field(max_length=5000),
    ]


class Scaled(Model):
    """Parsl asks for more worker pods, or for fewer."""

    type: Literal["scaled"]
    executor: Label
    before: Annotated[int, Field(ge=0, le=10**6)]
    after: Annotated[int, Field(ge=0, le=10**6)]
    why: Annotated[str, StringConstraints(max_length=300)]


class Held(Model):
    """The workflow waits to call this app, as many tasks are pending; empty once it goes on."""

    type: Literal["held"]
    app: App


class Workers(Model):
    """How many workers of this pod have registered."""

    type: Literal["workers"]
    executor: Label
    pod: Pod
    number: Annotated[int, Field(ge=0, le=10**6)]


class ResumedApps(Model):
    """What was taken over of an older run so far, by app (`shared.resumed.Resumed`)."""

    type: Literal["resumed"]
    apps: Annotated[list[tuple[App, Count, Count, Count, Count]], Field(max_length=RESUMED_APPS)]


class Used(Model):
    """What the workflow's process has used so far."""

    type: Literal["used"]
    cpu: Seconds
    memory: Bytes


class Log(Model):
    """A line for the launcher's log."""

    type: Literal["log"]
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    text: Text


class Faulted(Fault):
    """The run cannot go on."""

    type: Literal["fault"]


class Raised(Model):
    """The workflow raised."""

    type: Literal["raised"]
    text: Text


class Unreceived(Model):
    """Tasks failed, and the workflow never asked for their exceptions."""

    type: Literal["unreceived"]
    count: Annotated[int, Field(ge=1, le=10**9)]
    first: Text


class Returned(Model):
    """What the workflow returned."""

    type: Literal["returned"]
    result: Any


class Picture(Model):
    """A part of a picture for the report."""

    type: Literal["picture"]
    name: Annotated[str, StringConstraints(max_length=5000)]
    media: Literal["image/png", "image/jpeg", "image/svg+xml"]
    data: Annotated[str, StringConstraints(max_length=900_000, pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
    last: bool


FromSupervisor = Ready | Notice | Code | Ended
FromKernel = (
    Submit
    | Blocks
    | Registered
    | Tasks
    | Scaled
    | Held
    | Workers
    | ResumedApps
    | Used
    | Log
    | Faulted
    | Raised
    | Unreceived
    | Returned
    | Picture
)

_HELLO: TypeAdapter[Hello] = TypeAdapter(Hello)
_FROM: dict[str, TypeAdapter[Any]] = {
    "supervisor": TypeAdapter(Annotated[FromSupervisor, Field(discriminator="type")]),
    "kernel": TypeAdapter(Annotated[FromKernel, Field(discriminator="type")]),
}


def hello(line: bytes) -> Hello:
    """Return the first message of a connection.

    Raises:
        ProtocolError: it is no such message.
    """
    greeting: Hello = _checked(_HELLO, line)
    return greeting


def checked(role: str, line: bytes) -> Any:
    """Return a message of a connection of this role, as its model.

    Raises:
        ProtocolError: that role sends no such message, or its content is out of bounds.
    """
    return _checked(_FROM[role], line)


def _checked(adapter: TypeAdapter[Any], line: bytes) -> Any:
    try:
        return adapter.validate_json(line)
    except ValidationError as error:
        raise ProtocolError(untrusted.refusal(error, "message")) from None
