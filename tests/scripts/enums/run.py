"""Members of its own enumerations are the same ones in tasks and back."""

import enum

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"

    @property
    def other(self):
        return Color.BLUE if self is Color.RED else Color.RED

    @classmethod
    def of(cls, letter):
        return cls(letter)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = enum.auto()


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE


class Word(enum.StrEnum):
    YES = enum.auto()


@python_app
def turned(color):
    return color.other if color is Color.RED else None


@python_app
def look(level, right, word):
    return level + 1, right | Right.WRITE, {word: Color.of("b")}, Level.HIGH


if __name__ == "__main__":
    parsl.load(Config(executors=[ThreadPoolExecutor()]))
    print(turned(Color.RED).result() is Color.BLUE, turned(Color.BLUE).result())
    number, right, words, level = look(Level.LOW, Right.READ, Word.YES).result()
    print(number, right, right is Right.BOTH, words, words[Word.YES] is Color.BLUE, level is Level.HIGH)
    print({Color.RED: 1}[Color.of("r")], list(Color))
