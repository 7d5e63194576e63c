"""Its own exceptions, raised in tasks and caught by their classes."""

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.dataflow.errors import DependencyError
from parsl.executors import ThreadPoolExecutor


class ProcessingError(Exception):
    """With arguments that `args` does not tell."""

    def __init__(self, path, *, line=0):
        super().__init__(f"{path}:{line}: cannot be read")
        self.path = path
        self.line = line


class Hopeless(ProcessingError, ValueError):
    pass


class Pair(Exception):
    """With more than one argument, of which the text is made."""

    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")
        self.left, self.right = left, right


@python_app
def pair(left, right):
    error = Pair(left, right)
    error.add_note("of two")
    raise error from KeyError(left)


@python_app
def read(path, hopeless=False):
    if hopeless:
        raise Hopeless(path, line=9)
    raise ProcessingError(path, line=7)


@python_app
def missing(path):
    with open(path) as file:
        return file.read()


@python_app
def after(value):
    return value


if __name__ == "__main__":
    parsl.load(Config(executors=[ThreadPoolExecutor()]))
    try:
        read("a.txt").result()
    except ProcessingError as error:
        print(type(error) is ProcessingError, error, error.path, error.line)
    try:
        read("b.txt", hopeless=True).result()
    except ValueError as error:
        print(isinstance(error, Hopeless), error)
    try:
        pair(1, 2).result()
    except Pair as error:
        print(error, error.args, error.left, error.right, error.__notes__, repr(error.__cause__))
    try:
        missing("nowhere.txt").result()
    except FileNotFoundError as error:
        print(error.filename, error.errno)
    failed = after(read("c.txt"))
    print(type(failed.exception()) is DependencyError, isinstance(read("d.txt").exception(), ProcessingError))
