"""What a script defines goes to another process and back, as to a thread, for each kind."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

# A module beside the script: hands a call to a worker's process, by Parsl's own packing, and
# returns what comes back.
OTHER = """
import subprocess, sys
from parsl.app.errors import RemoteExceptionWrapper
from parsl.serialize import deserialize, pack_apply_message

WORKER = '''
import sys
from parsl.app.errors import wrap_error
from parsl.serialize import serialize, unpack_apply_message
while size := sys.stdin.buffer.readline():
    function, args, kwargs = unpack_apply_message(sys.stdin.buffer.read(int(size)))
    answer = serialize(wrap_error(function)(*args, **kwargs))
    sys.stdout.buffer.write(b"%d\\\\n" % len(answer) + answer)
    sys.stdout.buffer.flush()
'''
worker = subprocess.Popen([sys.executable, "-P", "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

def there(function, *args, **kwargs):
    message = pack_apply_message(function, args, kwargs)
    worker.stdin.write(b"%d\\n" % len(message) + message)
    worker.stdin.flush()
    size = worker.stdout.readline()
    assert size, "the worker is gone"
    result = deserialize(worker.stdout.read(int(size)))
    if isinstance(result, RemoteExceptionWrapper):
        result.reraise()
    return result
"""

SCRIPTS = {
    "a dataclass": """
        from dataclasses import asdict, dataclass, field, fields, replace
        @dataclass(order=True)
        class Point:
            x: int
            y: int = 2
            tags: list = field(default_factory=list)
        def shift(point):
            assert isinstance(point, Point) and point == Point(1) and asdict(point) == {"x": 1, "y": 2, "tags": []}
            assert [f.name for f in fields(Point)] == ["x", "y", "tags"] and Point(1).tags is not Point(1).tags
            return replace(point, x=point.x + 1)
        back = there(shift, Point(1))
        assert type(back) is Point and back == Point(2) and back > Point(1)
        assert repr(back) == "Point(x=2, y=2, tags=[])"
        """,
    "a frozen dataclass with slots": """
        from dataclasses import dataclass, KW_ONLY
        @dataclass(frozen=True, slots=True)
        class Point:
            x: int
            _: KW_ONLY
            y: int = 2
        def shift(point):
            try:
                point.x = 7
            except AttributeError:
                return {point: Point(point.x + 1, y=3)}
        back = there(shift, Point(1))
        assert back == {Point(1): Point(2, y=3)} and not hasattr(Point(1), "__dict__")
        """,
    "slots": """
        class Base:
            __slots__ = "a"
        class Pair(Base):
            __slots__ = ("b", "__hidden", "c")
            def __init__(self, a, b):
                self.a, self.b, self.__hidden = a, b, a + b
            def hidden(self):
                return self.__hidden
        def work(pair):
            assert type(pair) is Pair and not hasattr(pair, "__dict__") and not hasattr(pair, "c")
            pair.c = 5
            return pair, Pair(4, 5)
        one, two = there(work, Pair(1, 2))
        assert (one.a, one.b, one.c, one.hidden(), two.hidden()) == (1, 2, 5, 3, 9) and type(one) is type(two) is Pair
        """,
    "enumerations": """
        import enum
        class Color(enum.Enum):
            RED = 1
            BLUE = "b"
            CRIMSON = 1
            def shout(self):
                return self.name + "!"
        class Size(enum.IntEnum):
            S = enum.auto()
            L = enum.auto()
        class May(enum.Flag):
            READ = enum.auto()
            WRITE = enum.auto()
        class Word(enum.StrEnum):
            YES = enum.auto()
        def work(color, may):
            assert color is Color.RED is Color.CRIMSON and color.shout() == "RED!" and Color("b") is Color.BLUE
            assert list(Size) == [1, 2] and may == May.READ | May.WRITE and May.READ in may and Word.YES == "yes"
            return color, Color.BLUE, Size.L, may, Word.YES, list(Color)
        back = there(work, Color.RED, May.READ | May.WRITE)
        assert back[0] is Color.RED and back[1] is Color.BLUE and back[2] is Size.L and back[4] is Word.YES
        assert back[3] is May.READ | May.WRITE and back[5] == list(Color)
        """,
    "an enumeration with its own type": """
        import enum
        class Planet(enum.Enum):
            EARTH = (5.9, 6.3)
            MARS = (0.6, 3.3)
            def __init__(self, mass, radius):
                self.mass, self.radius = mass, radius
        class Money(str, enum.Enum):
            EURO = "eur"
        class Code(bytes, enum.Enum):
            def __new__(cls, value, label):
                one = bytes.__new__(cls, [value])
                one._value_ = value
                one.label = label
                return one
            A = (1, "first")
        def work(planet, money, code):
            assert code is Code.A and code.label == "first" and Code(1) is code and code == b"\\x01"
            return planet.mass, Planet.MARS, money is Money.EURO and money == "eur", code
        assert there(work, Planet.EARTH, Money.EURO, Code.A) == (5.9, Planet.MARS, True, Code.A)
        """,
    "abstract classes": """
        import abc
        class Shape(abc.ABC):
            @property
            @abc.abstractmethod
            def area(self): ...
            @classmethod
            def unit(cls):
                return cls(1)
            @staticmethod
            def name():
                return "shape"
        class Square(Shape):
            def __init__(self, side):
                super().__init__()
                self.side = side
            @property
            def area(self):
                return self.side ** 2
        def work(square):
            try:
                Shape()
            except TypeError:
                assert isinstance(square, Shape) and Square.unit().area == 1 and Shape.name() == "shape"
                return Square(square.area)
        back = there(work, Square(3))
        assert isinstance(back, Shape) and type(back) is Square and back.area == 81
        """,
    "an exception": """
        class Wrong(Exception):
            pass
        class Worse(Wrong):
            def __init__(self, place, number):
                super().__init__(place, number)
                self.number = number
        def work(number):
            try:
                raise Worse("here", number)
            except Wrong as error:
                if number == 1:
                    raise
                raise Wrong("there") from error
        try:
            there(work, 1)
        except Worse as error:
            assert error.args == ("here", 1) and error.number == 1
        else:
            assert False
        try:
            there(work, 2)
        except Wrong as error:
            assert type(error) is Wrong and type(error.__cause__) is Worse
        else:
            assert False
        """,
    "functions of all kinds": """
        import functools, math
        LIMIT = 10
        def helper(x):
            return deeper(x) + LIMIT
        def deeper(x):
            return math.floor(x)
        def outer(a):
            count = 0
            def inner(b, *rest, c=3, **more):
                nonlocal count
                count += 1
                return a + b + c + sum(rest) + count + helper(0.5)
            return inner
        def fact(n):
            return n * fact(n - 1) if n else 1
        def even(n):
            return n == 0 or odd(n - 1)
        def odd(n):
            return n != 0 and even(n - 1)
        def decorated(function):
            @functools.wraps(function)
            def wrapper(*args):
                return ["wrapped", function(*args)]
            return wrapper
        @decorated
        def plain(x):
            return helper(x)
        def numbers(n):
            yield from range(n)
        async def later():
            return helper(1)
        def run():
            import asyncio
            return asyncio.run(later())
        assert there(helper, 1.5) == 11
        assert there(outer(1), 2, 4, c=0) == 18
        assert there(lambda x: helper(x) * 2, 2.2) == 24
        assert there(fact, 5) == 120 and there(even, 7) is False
        assert there(plain, 3) == ["wrapped", 13]
        assert there(lambda: list(numbers(3))) == [0, 1, 2]
        assert there(run) == 11
        assert there(functools.partial(helper, 4)) == 14
        assert there(lambda f: f(1), helper) == 11
        assert there(lambda: helper)(2) == 12
        """,
    "named tuples": """
        import collections, typing
        Pair = collections.namedtuple("Pair", "a b", defaults=[2])
        class Named(typing.NamedTuple):
            a: int
            b: str = "b"
            def both(self):
                return f"{self.a}{self.b}"
        def work(pair, named):
            assert isinstance(pair, Pair) and type(named) is Named and named.both() == "1b"
            return pair._replace(a=3), Named(7), Pair._fields
        pair, named, names = there(work, Pair(1), Named(1))
        assert type(pair) is Pair and pair == Pair(3, 2) and type(named) is Named and named.both() == "7b"
        assert names == ("a", "b")
        """,
    "typed dictionaries and protocols": """
        import typing
        class Row(typing.TypedDict):
            a: int
        class More(Row, total=False):
            b: str
        @typing.runtime_checkable
        class Runs(typing.Protocol):
            def run(self) -> int: ...
        class Runner:
            def run(self) -> int:
                return 5
        def work(row: Row) -> More:
            assert isinstance(Runner(), Runs) and not isinstance(3, Runs)
            return More(a=row["a"] + 1, b="b")
        assert there(work, Row(a=1)) == {"a": 2, "b": "b"}
        """,
    "generic classes": """
        import typing
        T = typing.TypeVar("T")
        class Box(typing.Generic[T]):
            def __init__(self, content: T):
                self.content = content
        class Boxes(Box[T], typing.Iterable[T]):
            def __iter__(self):
                return iter([self.content])
        def work(box):
            assert isinstance(box, Box) and Box[int](3).content == 3 and list(Boxes[str]("s")) == ["s"]
            return Boxes(box.content + 1)
        back = there(work, Box(1))
        assert type(back) is Boxes and back.content == 2 and Boxes[int].__origin__ is Boxes
        """,
    "metaclasses": """
        class Meta(type):
            made = []
            def __new__(mcs, name, bases, namespace, **more):
                cls = super().__new__(mcs, name, bases, namespace)
                mcs.made.append(name)
                return cls
            def __init__(cls, name, bases, namespace, word="none", **more):
                super().__init__(name, bases, namespace)
                cls.word = word
            @property
            def shout(cls):
                return cls.word + "!"
        class Base(metaclass=Meta, word="base"):
            pass
        class Derived(Base, word="derived"):
            pass
        def work(thing):
            assert type(thing) is Derived and type(Derived) is Meta and Derived.shout == "derived!"
            return Base(), Derived
        base, derived = there(work, Derived())
        assert type(base) is Base and derived is Derived and Meta.made == ["Base", "Derived"]
        """,
    "classes with __init_subclass__": """
        class Plugin:
            known = {}
            def __init_subclass__(cls, /, key, **more):
                super().__init_subclass__(**more)
                Plugin.known[key] = cls
        class One(Plugin, key="one"):
            pass
        class Two(Plugin, key="two"):
            pass
        def work(key):
            return Plugin.known[key](), sorted(Plugin.known)
        back, keys = there(work, "two")
        assert type(back) is Two and keys == ["one", "two"] and Plugin.known == {"one": One, "two": Two}
        """,
    "classes that refer to themselves and to each other": """
        class Node:
            root = None
            def __init__(self, value, below=()):
                self.value, self.below = value, list(below)
            def grow(self):
                return Node(self.value + 1, [self, Leaf(self)])
            class Inside:
                pass
        class Leaf(Node):
            def __init__(self, parent):
                super().__init__(0)
                self.parent = parent
        Node.root = Leaf(Node(0))
        def work(node):
            assert type(Node.root) is Leaf and isinstance(Node.root.parent, Node)
            return node.grow(), Node.Inside(), repr(Node.Inside)
        node, inside, shown = there(work, Node(1))
        assert type(node) is Node and node.below[1].parent is node.below[0] and type(node.below[1]) is Leaf
        assert type(inside) is Node.Inside and shown == repr(Node.Inside)
        """,
    "descriptors": """
        import functools
        class Positive:
            def __set_name__(self, owner, name):
                self.name = "_" + name
            def __get__(self, instance, owner=None):
                return self if instance is None else getattr(instance, self.name)
            def __set__(self, instance, value):
                assert value > 0
                setattr(instance, self.name, value)
        class Thing:
            size = Positive()
            def __init__(self, size):
                self.size = size
            @functools.cached_property
            def double(self):
                return self.size * 2
            @functools.lru_cache
            def cached(self):
                return self.size
            def __reduce__(self):
                return Thing, (self.size,)
        def work(thing):
            return Thing(thing.double), thing.size
        back, size = there(work, Thing(2))
        assert type(back) is Thing and back.size == 4 and size == 2
        """,
    "a class whose __init_subclass__ refuses": """
        class Plugin:
            def __init_subclass__(cls, /, key, **more):
                super().__init_subclass__(**more)
                cls.key = key
        class One(Plugin, key="one"):
            pass
        class Checked(type):
            def __new__(mcs, name, bases, namespace, *, number):
                return super().__new__(mcs, name, bases, namespace | {"number": number})
            def __init__(cls, name, bases, namespace, *, number):
                super().__init__(name, bases, namespace)
        class Numbered(metaclass=Checked, number=7):
            pass
        def work(one, numbered):
            class Other(Plugin, key="other"):
                pass
            return one, One(), Other.key, type(numbered).number, Numbered()
        one, more, key, number, numbered = there(work, One(), Numbered())
        assert type(one) is type(more) is One and one.key == "one" and (key, number) == ("other", 7)
        assert type(numbered) is Numbered
        """,
    "a class that the task defines": """
        def work():
            from dataclasses import dataclass
            @dataclass
            class Mine:
                x: int
            return Mine(3), Mine
        one, Mine = there(work)
        assert type(one) is Mine and one == Mine(3)
        def again(one):
            assert type(one) is Mine
            return one
        assert there(again, one) == Mine(3)
        """,
    "what functions share": """
        import threading, logging
        log = logging.getLogger(__name__)
        lock = threading.Lock()
        count = 0
        def counter():
            number = 0
            def up():
                nonlocal number
                number += 1
            def get():
                return number
            return up, get
        def step():
            global count
            with lock:
                count += 1
        def work(up, get):
            up(); up(); step(); step()
            log.debug("done in %s", __name__)
            return get(), count, __name__
        assert there(work, *counter()) == (2, 2, "__main__") and count == 0
        def pair(functions):
            functions[0]()
            return functions[1]()
        assert there(pair, counter()) == 1
        """,
    "locks": """
        import threading
        locks = [threading.Lock(), threading.RLock(), threading.Condition()]
        def work():
            for lock in locks:
                with lock:
                    pass
            return locks
        with locks[0], locks[1]:
            back = there(work)
        for lock in back:
            with lock:
                pass
        """,
    "new types": """
        import typing
        UserId = typing.NewType("UserId", int)
        Number = typing.TypeVar("Number", int, float)
        P = typing.ParamSpec("P")
        Ts = typing.TypeVarTuple("Ts")
        class Calls(typing.Generic[P, typing.Unpack[Ts]]):
            pass
        class Holder(typing.Generic[Number]):
            value: Number
        def work(user: UserId, number: Number) -> Holder[Number]:
            Calls[[int], str]()
            made = Holder[Number]()
            made.value = UserId(user + number)
            return made
        back = there(work, UserId(3), 4)
        assert type(back) is Holder and back.value == 7 and Holder.__parameters__ == (Number,)
        """,
    "modules below a module": """
        import xml.dom.minidom
        def work():
            return xml.dom.minidom.parseString("<a/>").documentElement.tagName
        assert there(work) == "a"
        """,
    "a function of a library that was wrapped": """
        import functools, beside
        @beside.logged
        def work(x):
            return helper(x)
        def helper(x):
            return x + 1
        @functools.lru_cache
        def cached(x):
            return helper(x)
        assert there(work, 1) == ("called", 2)
        assert there(beside.logged(beside.twice), 2) == ("called", 4)
        assert there(lambda: cached(1)) == 2
        """,
    "a global that is changed between two calls": """
        FACTOR = 2
        class Options:
            deep = 1
        def work(x):
            return x * FACTOR, Options.deep, Options
        assert there(work, 3)[:2] == (6, 1)
        FACTOR, Options.deep = 5, 7
        assert there(work, 3)[:2] == (15, 7)
        assert there(work, 3)[2] is Options
        """,
    "what another process changes of a class stays there": """
        class Options:
            deep = 1
        def work():
            Options.deep = 5
            return Options()
        assert type(there(work)) is Options and Options.deep == 1
        """,
    "globals that cannot be pickled": """
        import sqlite3
        base = sqlite3.connect(":memory:")
        def helper():
            return 3
        def without(x):
            return x + 1
        def uses(x):
            return helper() + x if x else base.cursor()
        assert there(without, 1) == 2
        assert there(uses, 1) == 4
        try:
            there(uses, 0)
        except NameError as error:
            assert "base" in str(error)
        else:
            assert False
        """,
    "arguments that cannot be pickled": """
        import sqlite3
        try:
            there(print, sqlite3.connect(":memory:"))
        except TypeError as error:
            assert "sqlite3" in str(error)
        else:
            assert False
        assert there(len, "abc") == 3
        """,
    "modules and what the script took from them": """
        import os.path as place, json as notation
        from collections import OrderedDict, defaultdict
        from pathlib import Path
        import beside
        from beside import Thing, twice
        def work(thing):
            assert type(thing) is Thing and place.join("a", "b") == "a/b"
            return Thing(twice(thing.x)), OrderedDict(a=Path("b")), notation.dumps([1]), beside.twice(2)
        thing, ordered, text, four = there(work, Thing(4))
        assert type(thing) is Thing and thing.x == 8 and ordered == {"a": Path("b")} and text == "[1]" and four == 4
        """,
    "two hundred tasks with a class each": """
        from dataclasses import make_dataclass
        for number in range(200):
            Made = make_dataclass("Made", [("x", int)], namespace={"__module__": "__main__"})
            Made.__module__ = "__main__"
            def work(one):
                return Made(one.x + 1)
            assert there(work, Made(number)) == Made(number + 1)
        """,
}
BESIDE = """
class Thing:
    def __init__(self, x):
        self.x = x
def twice(x):
    return 2 * x
import functools
WORD = "called"
def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return WORD, function(*args)
    return wrapper
"""
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from k8s_parsl_runtime.shared import pickling
from k8s_parsl_runtime.workflow import code
pickling.register()
code.run_script(sys.argv[1] + "/script.py", [])
"""
# Of Python 3.12; run by test_without_anything_else.py.
NEW_SYNTAX = """
class Box[T]:
    def __init__(self, content: T):
        self.content = content
class Many[T: int, *Ts, **P](Box[T]):
    def call(self, *args: *Ts) -> None: ...
    def more(self, *args: P.args, **kwargs: P.kwargs) -> None: ...
type Boxes[T] = list[Box[T]]
def first[T](boxes: Boxes[T]) -> Box[T]:
    assert type(boxes[0]) is Box and Box[int](1).content == 1
    return boxes[0]
back = there(first, [Box(3)])
assert type(back) is Box and back.content == 3
assert type(there(lambda many: many, Many(1))) is Many and there(lambda: Many[int, str, [int]](2).content) == 2
"""


def run(folder, text, python=sys.executable):
    (folder / "other.py").write_text(OTHER)
    (folder / "beside.py").write_text(BESIDE)
    (folder / "script.py").write_text(
        "from other import there\n" + textwrap.dedent(text) + "print('well')\n"
    )
    words = [python, "-P", "-c", RUN, str(folder)]
    # A worker has the folders of the user's on its path.
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder)}
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_goes_there_and_back(tmp_path, name):
    done = run(tmp_path, SCRIPTS[name])
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr
