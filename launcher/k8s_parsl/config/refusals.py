"""What a model refuses, in the user's words instead of pydantic's."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic_core import ErrorDetails

from k8s_parsl.config.helm_yaml import BARE
from k8s_parsl.config.names import APP_IS, KEYS_ARE, LABEL_IS, MUST_BE

# Keys, and numbers of a list, from the top.
Location = tuple[int | str, ...]
# What pydantic has at the end of a location where a key is wrong and not its value.
_OF_THE_KEY = "[key]"
# Where the data has nothing of a name.
_ABSENT = object()

# Pydantic has JSON's words for these, and a file of values is YAML.
_SHAPES = {
    "dict_type": "should be a map, that is lines of `key: value`",
    "model_type": "should be a map, that is lines of `key: value`",
    "string_type": "should be text, in quotes",
    "tuple_type": "should be a list, that is lines of `- value`",
}

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Fault:
    """One wrong value, and pydantic's errors of it: one for each kind that it may be of."""

    location: Location
    errors: list[ErrorDetails]

    def __str__(self) -> str:
        return f"{self._key}{_said(self.errors)}"

    @property
    def is_unknown_key(self) -> bool:
        """Whether the model has no such key."""
        return self.errors[0]["type"] == "extra_forbidden"

    @property
    def is_depth(self) -> bool:
        """Whether pydantic gave up on maps and lists in one another."""
        first = self.errors[0]
        return first["type"] == "json_invalid" and "recursion" in first["msg"]

    @property
    def _key(self) -> str:
        path = ".".join(str(part) for part in self.location if part != _OF_THE_KEY)
        return f"{path}: " if path else ""


def faults(errors: Iterable[ErrorDetails], data: Any) -> list[Fault]:
    """Return one fault for each wrong place in the data, with pydantic's errors of it.

    Where a value may be of several kinds (a map or a text, say), pydantic has an error for each
    kind, and the kind's name in its location. If an error is about a place inside the value, its
    kind is the one that was meant: the errors of the whole value are left out.
    """
    found: list[Fault] = []
    by_value = _grouped(errors, lambda error: _up_to_a_kind(error, data))
    for value, of_value in by_value.items():
        by_place = _grouped(of_value, lambda error: _location(error, data))
        has_inner_place = len(by_place) > 1
        if has_inner_place:
            by_place.pop(value, None)
        for place, of_place in by_place.items():
            found.append(Fault(place, of_place))
    return found


def _grouped(
    errors: Iterable[ErrorDetails], by: Callable[[ErrorDetails], Key]
) -> dict[Key, list[ErrorDetails]]:
    groups: dict[Key, list[ErrorDetails]] = {}
    for error in errors:
        groups.setdefault(by(error), []).append(error)
    return groups


def _location(error: ErrorDetails, data: Any) -> Location:
    """Return the location of an error, without the names of kinds."""
    return tuple(step for step in _steps(error, data) if step is not None)


def _up_to_a_kind(error: ErrorDetails, data: Any) -> Location:
    """Return the location of the value that may be of several kinds; of another one its own."""
    location: list[int | str] = []
    for step in _steps(error, data):
        if step is None:
            break
        location.append(step)
    return tuple(location)


def _steps(error: ErrorDetails, data: Any) -> Iterator[int | str | None]:
    """Yield the keys and numbers of an error's location; None for a kind's name."""
    location = error["loc"]
    for number, step in enumerate(location, start=1):
        below = _below(data, step)
        is_missing = error["type"] == "missing" and number == len(location)
        if below is _ABSENT and not is_missing and step != _OF_THE_KEY:
            yield None
            continue
        yield step
        data = below


def _below(data: Any, step: int | str) -> Any:
    """Return what the data has under a key or a number, or `_ABSENT`."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            # JSON's keys are texts, where YAML has other types too.
            if str(key) == step:
                return value
    if isinstance(data, list | tuple) and isinstance(step, int) and step < len(data):
        return data[step]
    return _ABSENT


def _said(errors: list[ErrorDetails]) -> str:
    """Return what is wrong with one value."""
    error = errors[0]
    value = error["input"]
    is_key = error["loc"][-1:] == (_OF_THE_KEY,)
    match error["type"]:
        case "extra_forbidden":
            return "there is no such key"
        case "missing":
            return "is needed"
        case "json_invalid":
            # What json.dumps writes is JSON, but for this one thing. The values are not shown.
            return "a text has half of a surrogate pair in it (\\ud800 to \\udfff)"
        case "string_pattern_mismatch" if is_key:
            return f"must be {KEYS_ARE[error['ctx']['pattern']]}"
        case "string_too_long" if is_key:
            return f"must be {APP_IS if error['loc'][0] == 'apps' else LABEL_IS}"
        case "string_type" if isinstance(value, bool) and len(errors) == 1:
            truth = str(value).lower()
            return (
                f"should be text, in quotes, not {truth} "
                f"(as YAML reads {BARE[truth]} without quotes)"
            )
        case "value_error":
            return str(error["ctx"]["error"])
        case "too_short":
            return (
                "at least one is needed, such as workers: {} (a label with nothing behind it counts"
                " as none)"
            )
        case "string_pattern_mismatch" if error["loc"][-1] == "call":
            return f"is not module:function: {value!r}{_call_instead(value)}"
        case _:
            return f"{_wanted(errors)}, not {value!r}"


def _wanted(errors: list[ErrorDetails]) -> str:
    """Return what the value should be, once for each kind that it may be of."""
    first, *others = dict.fromkeys(_wanted_by(error) for error in errors)
    wanted = first
    for other in others:
        wanted += f", or {other.removeprefix('input ').removeprefix('should be ')}"
    return wanted


def _wanted_by(error: ErrorDetails) -> str:
    if error["type"] == "string_pattern_mismatch" and error["ctx"]["pattern"] in MUST_BE:
        return f"should be {MUST_BE[error['ctx']['pattern']]}"
    message = error["msg"]
    return _SHAPES.get(error["type"], f"{message[0].lower()}{message[1:]}")


def _call_instead(call: str) -> str:
    """Return what to write for a file's name where a module's belongs."""
    file, colon, function = call.partition(":")
    if not file.endswith(".py"):
        return ""
    if not colon:
        return "; a script's path goes into workflow.script"
    module = file.removesuffix(".py").removeprefix("./").replace("/", ".")
    return f"; leave out .py: {module}:{function}"
