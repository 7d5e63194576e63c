"""Pickles for what a script defines in `__main__`, so that its apps run on workers as they do in
threads.

Parsl pickles a function of `__main__` without the globals that it uses, and a class of `__main__`
as a copy each time: helpers and imports of a script are missing on a worker (NameError), `except
MyError` and `==` of dataclasses fail. Here a function carries the globals that it refers to, and a
class is the same class wherever it comes back to, by a token.

Used for scripts alone; what is in a module that can be imported goes by its name, as Parsl has it.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import enum
import functools
import importlib
import io
import pickle
import sys
import threading
import types
import typing
import uuid
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import dill
from parsl.serialize import facade
from parsl.serialize.base import SerializerBase

from k8s_parsl_runtime.shared import exceptions

MAIN = "__main__"

# Classes (and type variables) that were met, and which of them come from another process.
_tokens: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_met: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
# Weak references alone would lose them between two tasks.
_foreign: dict[str, Any] = {}

# Of a class's dictionary: made with the class itself.
_NOT_STATE = ("__dict__", "__weakref__", "_abc_impl", "__slots__")
_NOT_ENUM_STATE = (
    *(
        "_generate_next_value_",
        "_member_names_",
        "_member_map_",
        "_value2member_map_",
        "_unhashable_values_",
    ),
    *(
        "_new_member_",
        "_use_args_",
        "_member_type_",
        "_value_repr_",
        "_hashable_values_",
        "_unhashable_values_map_",
    ),
    *("__new__", "__new_member__"),
)
_NOT_MEMBER_STATE = ("_value_", "_name_", "__objclass__", "_sort_order_")
_FUNCTION_STATE = ("__kwdefaults__", "__doc__", "__module__", "__qualname__", "__type_params__")
_TYPE_VARIABLES = (typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple, typing.NewType)
_LOCKS: dict[type, Callable[[], Any]] = {
    type(make()): make for make in (threading.Lock, threading.RLock)
}
_GLOBAL = ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
# The value of a member of an enumeration that is an int, a str ... , too.
_PLAIN: dict[type, Callable[[Any], Any]] = {
    int: int.__index__,
    float: float.__float__,
    str: str.__str__,
    bytes: bytes.__bytes__,
    tuple: lambda value: tuple(tuple.__iter__(value)),
}

Reduced = tuple[Any, ...]


class Pickler(dill.Pickler):
    """dill's, with functions that carry their globals and classes that keep their identity.

    A ``tolerant`` one leaves out what cannot be pickled of a function's globals and of a class's
    attributes.
    """

    def __init__(
        self, file: io.BytesIO, *, tolerant: bool, takes: dict[int, bool] | None = None
    ) -> None:
        super().__init__(file, recurse=False)
        self._tolerant = tolerant
        # Whether the value of this id can be pickled, as far as that was tried.
        self._verdicts = {} if takes is None else takes
        # One dictionary for the functions of one module, as they have one; kept here, as the pickle
        # knows it by its id.
        self._globals: dict[int, dict[str, Any]] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Reduce what is not found by its name in another process; leave all else to dill."""
        if isinstance(obj, types.FunctionType):
            return (
                NotImplemented
                if _is_importable(obj, obj.__qualname__)
                else self._reduce_function(obj)
            )
        if isinstance(obj, types.CellType):
            return _reduce_cell(obj)
        if isinstance(obj, type):
            return self._reduce_class(obj) if obj.__module__ == MAIN else NotImplemented
        if isinstance(obj, _TYPE_VARIABLES) and not _is_importable(obj, obj.__name__):
            return _reduce_type_variable(obj)
        if isinstance(obj, BaseException) and _is_made_anew(type(obj)):
            return exceptions.made, (type(obj), obj.args), vars(obj) or None
        # Free in the other process, where it guards nothing of this one's. dill makes one that
        # cannot be released.
        return (_LOCKS[type(obj)], ()) if type(obj) in _LOCKS else NotImplemented

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Refuse a name of `__main__`, which in another process is another module."""
        if getattr(obj, "__module__", None) == MAIN:
            raise pickle.PicklingError(f"{name or obj!r} is of {MAIN} and cannot be pickled")
        super().save_global(obj, name)

    def _reduce_function(self, function: types.FunctionType) -> Reduced:
        code = function.__code__
        module = function.__globals__.get("__name__")
        known = sys.modules.get(str(module))
        values: dict[str, Any] = {}
        if module != MAIN and known is not None and vars(known) is function.__globals__:
            home: Any = str(module)
        else:
            home = self._globals.setdefault(id(function.__globals__), {"__name__": module})
            values = {
                name: function.__globals__[name]
                for name in _names(code)
                if name in function.__globals__
            }
        state = {
            "globals": self._without_refused(values),
            "imports": [name for value in values.values() for name in _submodules(value, code)],
            "attributes": {
                name: getattr(function, name) for name in _FUNCTION_STATE if hasattr(function, name)
            },
            "annotations": self._without_refused(function.__annotations__),
            "dict": self._without_refused(vars(function)),
            "defaults": function.__defaults__,
        }
        made = (code, home, function.__name__, function.__closure__)
        return _function, made, state, None, None, _fill_function

    def _reduce_class(self, cls: type) -> Reduced:
        token = _token(cls)
        members: dict[str, dict[str, Any]] = {}
        if issubclass(cls, enum.Enum):
            made: Reduced = (_enum, (token, cls.__name__, cls.__bases__, _values(cls)))
            left_out = {*_NOT_STATE, *_NOT_ENUM_STATE, *cls.__members__}
            members = {name: _member_state(member) for name, member in cls.__members__.items()}
        elif typing.is_typeddict(cls):
            made = (_typed_dict, (token, cls.__name__))
            left_out = set(_NOT_STATE)
        else:
            slots = cls.__dict__.get("__slots__")
            made = (_class, (token, type(cls), cls.__name__, _bases(cls), slots))
            left_out = set(_NOT_STATE)
        attributes = {
            name: value
            for name, value in cls.__dict__.items()
            if name not in left_out and not _is_slot(value, cls)
        }
        state = (
            token,
            self._without_refused(attributes) | {"__qualname__": cls.__qualname__},
            members,
        )
        return (*made, state, None, None, _fill_class)

    def _without_refused(self, values: dict[str, Any]) -> dict[str, Any]:
        if not self._tolerant:
            return dict(values)
        return {name: value for name, value in values.items() if self._takes(value)}

    def _takes(self, value: Any) -> bool:
        """Whether a value can be pickled; functions and classes are asked for their own parts
        later.
        """
        if isinstance(value, types.FunctionType | type | types.ModuleType):
            return True
        if id(value) not in self._verdicts:
            # What refers to itself: not because of that.
            self._verdicts[id(value)] = True
            try:
                Pickler(io.BytesIO(), tolerant=True, takes=self._verdicts).dump(value)
            except Exception:  # noqa: BLE001 (whatever a pickle of the user's raises)
                self._verdicts[id(value)] = False
        return self._verdicts[id(value)]


def dumps(obj: Any) -> bytes:
    """Pickle an object.

    A global that cannot be pickled is left out, as Parsl does with each of them: a task that uses
    it gets a NameError.

    Raises:
        Exception: whatever the object's own pickling raises.
    """
    try:
        return _dumps(obj, tolerant=False)
    except Exception:  # noqa: BLE001 (whatever a pickle of the user's raises)
        return _dumps(obj, tolerant=True)


def _dumps(obj: Any, *, tolerant: bool) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, tolerant=tolerant).dump(obj)
    return buffer.getvalue()


class Code(SerializerBase):
    """Parsl's serializer of functions."""

    def serialize(self, data: Any) -> bytes:
        """Pickle a function, each time: the globals that it carries may have changed."""
        return dumps(data)

    def deserialize(self, body: bytes) -> Any:
        """Load a function."""
        return dill.loads(body)  # noqa: S301 (tasks are pickles)


class Data(Code):
    """Parsl's serializer of arguments and results."""


def register() -> None:
    """Make these the serializers of this process."""
    for methods, serializer in (
        (facade.methods_for_code, Code()),
        (facade.methods_for_data, Data()),
    ):
        parsls = dict(methods)
        methods.clear()
        methods[serializer.identifier] = serializer
        methods.update(parsls)


# Functions ------------------------------------------------------------------------------------------------------------


def _is_importable(obj: Any, name: str) -> bool:
    """Whether another process finds this very object by its module and this name."""
    if obj.__module__ in (None, MAIN):
        return False
    found: Any = sys.modules.get(obj.__module__)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is obj


@functools.lru_cache(maxsize=10_000)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names of globals in a function's code, and in that of the functions inside it."""
    names = [one.argval for one in dis.get_instructions(code) if one.opname in _GLOBAL]
    inner = [
        name
        for const in code.co_consts
        if isinstance(const, types.CodeType)
        for name in _names(const)
    ]
    return tuple(dict.fromkeys([*names, *inner]))


def _submodules(module: Any, code: types.CodeType) -> Iterator[str]:
    """Yield the modules below a global one that the code names (`xml.dom`): they are not imported
    with it.
    """
    if isinstance(module, types.ModuleType) and hasattr(module, "__path__"):
        prefix = f"{module.__name__}."
        for name in list(sys.modules):
            if name.startswith(prefix) and set(name.removeprefix(prefix).split(".")) <= {
                *code.co_names
            }:
                yield name


def _function(code: types.CodeType, home: Any, name: str, closure: Any) -> types.FunctionType:
    """Return the function; without its globals, as they may refer to it."""
    names = vars(importlib.import_module(home)) if isinstance(home, str) else home
    names.setdefault("__builtins__", builtins)
    return types.FunctionType(code, names, name, None, closure)


def _fill_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    for name in state["imports"]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    function.__globals__.update(state["globals"])
    function.__defaults__ = state["defaults"]
    function.__annotations__ = state["annotations"]
    vars(function).update(state["dict"])
    for name, value in state["attributes"].items():
        setattr(function, name, value)


def _reduce_cell(cell: types.CellType) -> Reduced:
    content: tuple[Any, ...] = ()
    with contextlib.suppress(ValueError):
        content = (cell.cell_contents,)
    return types.CellType, (), content, None, None, _fill_cell


def _fill_cell(cell: types.CellType, content: tuple[Any, ...]) -> None:
    if content:
        cell.cell_contents = content[0]


# Exceptions -----------------------------------------------------------------------------------------------------------


def _is_made_anew(cls: type[BaseException]) -> bool:
    """Whether a pickle would call the class's own `__init__` with `args`, which need not be what
    that one takes.
    """
    return cls.__reduce__ is BaseException.__reduce__ and isinstance(
        cls.__init__, types.FunctionType
    )


# Classes --------------------------------------------------------------------------------------------------------------


def _token(one: Any) -> str:
    token = _tokens.get(one)
    if token is None:
        token = _tokens[one] = uuid.uuid4().hex
        _met[token] = one
    return token


def _meet(token: str, made: Any) -> Any:
    _tokens[made], _met[token], _foreign[token] = token, made, made
    return made


def _bases(cls: type) -> tuple[Any, ...]:
    """Return the bases as they were written: of a generic class they have its parameters."""
    return (
        cls.__bases__ if _is_namedtuple(cls) else cls.__dict__.get("__orig_bases__", cls.__bases__)
    )


def _is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and "_fields" in cls.__dict__


def _is_slot(value: Any, cls: type) -> bool:
    kinds = (types.MemberDescriptorType, types.GetSetDescriptorType)
    return isinstance(value, kinds) and value.__objclass__ is cls


def _class(token: str, metaclass: type, name: str, bases: tuple[Any, ...], slots: Any) -> type:
    """Return the class of this token; a new one without its attributes where this process has not
    met it.
    """
    if known := _met.get(token):
        return typing.cast("type", known)
    resolved = types.resolve_bases(bases)
    body: dict[str, Any] = {"__module__": MAIN}
    if resolved is not bases:
        body["__orig_bases__"] = bases
    if slots is not None:
        body["__slots__"] = slots
    # The user's own metaclass has done its work, and its result comes with the attributes.
    maker: Any = next(kind for kind in metaclass.__mro__ if kind.__module__ != MAIN)
    with _quiet(resolved):
        return typing.cast("type", _meet(token, maker.__new__(metaclass, name, resolved, body)))


@contextlib.contextmanager
def _quiet(bases: tuple[type, ...]) -> Iterator[None]:
    """Keep the user's own classes from being told of a subclass: they were when it was written."""
    told = {
        cls: cls.__dict__["__init_subclass__"]
        for base in bases
        for cls in base.__mro__
        if cls.__module__ == MAIN and "__init_subclass__" in cls.__dict__
    }
    for cls in told:
        type.__delattr__(cls, "__init_subclass__")
    try:
        yield
    finally:
        for cls, method in told.items():
            type.__setattr__(cls, "__init_subclass__", method)


def _typed_dict(token: str, name: str) -> type:
    """Return the TypedDict of this token; see `_class`."""
    if known := _met.get(token):
        return typing.cast("type", known)
    return typing.cast("type", _meet(token, typing.TypedDict(name, {})))  # type: ignore[operator]


def _values(cls: type[enum.Enum]) -> list[tuple[str, Any, Any]]:
    """Return name and value of each member; where the enumeration makes them itself, also its plain
    value.
    """
    own = any("__new_member__" in base.__dict__ and base.__module__ == MAIN for base in cls.__mro__)
    plain = next((make for kind, make in _PLAIN.items() if issubclass(cls, kind)), None)
    return [
        (name, member._value_, (plain and plain(member),) if own else None)
        for name, member in cls.__members__.items()
    ]


def _member_state(member: enum.Enum) -> dict[str, Any]:
    return {name: value for name, value in vars(member).items() if name not in _NOT_MEMBER_STATE}


def _enum(
    token: str, name: str, bases: tuple[type, ...], values: list[tuple[str, Any, Any]]
) -> type:
    """Return the enumeration of this token; see `_class`."""
    if known := _met.get(token):
        return typing.cast("type", known)
    metaclass: Any = type(bases[-1])
    namespace = metaclass.__prepare__(name, bases)
    namespace["__module__"] = MAIN
    made = iter(values)
    if values and values[0][2] is not None:

        def new(cls: Any, *_: Any) -> Any:
            value, (plain,) = next(made)[1:]
            kind = next((kind for kind in _PLAIN if issubclass(cls, kind)), object)
            member: Any = object.__new__(cls) if kind is object else kind.__new__(cls, plain)
            member._value_ = value
            return member

        namespace["__new__"] = new
    for member, value, _ in values:
        namespace[member] = value
    with _quiet(bases):
        return typing.cast(
            "type", _meet(token, metaclass.__new__(metaclass, name, bases, namespace))
        )


def _fill_class(cls: type, state: tuple[str, dict[str, Any], dict[str, dict[str, Any]]]) -> None:
    """Give a class its attributes, as they are now where it comes from; at home they stay as they
    are.
    """
    token, attributes, members = state
    if token in _foreign:
        for name, value in attributes.items():
            type.__setattr__(cls, name, value)
        for name, more in members.items():
            vars(cls.__members__[name]).update(more)  # type: ignore[attr-defined]


def _reduce_type_variable(one: Any) -> Reduced:
    if isinstance(one, typing.NewType):
        return _type_variable, (_token(one), typing.NewType, (one.__name__, one.__supertype__), {})
    how: dict[str, Any] = {}
    if not isinstance(one, typing.TypeVarTuple):
        how = {
            "bound": one.__bound__,
            "covariant": one.__covariant__,
            "contravariant": one.__contravariant__,
        }
        if getattr(one, "__infer_variance__", False):
            how = {"bound": one.__bound__, "infer_variance": True}
    return _type_variable, (
        _token(one),
        type(one),
        (one.__name__, *getattr(one, "__constraints__", ())),
        how,
    )


def _type_variable(
    token: str, kind: Callable[..., Any], words: tuple[Any, ...], how: dict[str, Any]
) -> Any:
    """Return the type variable of this token; see `_class`."""
    if known := _met.get(token):
        return known
    made = kind(*words, **how)
    made.__module__ = MAIN
    return _meet(token, made)


# A worker loads this module with the first function of a script, and then answers in the same way.
register()
