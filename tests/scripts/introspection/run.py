"""What it sees of itself as `__main__`."""

import inspect
import os
import pickle
import sys
import typing

import parsl
from parsl import python_app

parsl.load()
result = "a name that means nothing"


@python_app
def square(x: int) -> int:
    return x * x


def annotated(x: int, y: "Later") -> list[int]:
    """Its text."""
    return [x]


class Later:
    pass


def main():
    me = sys.modules["__main__"]
    import __main__

    print(me is __main__, os.path.basename(me.__file__), me.__name__, me.__doc__)
    print(sorted(name for name in globals() if name.startswith("__")))
    print(__spec__, __package__, type(__loader__).__name__, __annotations__, __builtins__.__name__)
    print(annotated.__annotations__["x"], typing.get_type_hints(annotated)["y"] is Later, annotated.__module__)
    print(inspect.getsource(annotated).splitlines()[0], annotated.__code__.co_name, inspect.getmodule(annotated) is me)
    print(pickle.loads(pickle.dumps(annotated)) is annotated, type(pickle.loads(pickle.dumps(Later()))) is Later)
    print([frame.function for frame in inspect.stack()][:2], sys.flags.optimize, __debug__)
    print(square(3).result(), Later.__qualname__, repr(Later).split()[1].rstrip(">"))
    print([name for name in ("exit", "quit", "help") if name not in dir(__builtins__)], sys.getrecursionlimit())


main()
