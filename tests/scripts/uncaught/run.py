"""An uncaught exception, with a cause and a note."""

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


class Empty(Exception):
    pass


@python_app
def items():
    return []


def first(found):
    try:
        return found[0]
    except IndexError as error:
        problem = Empty("nothing was found")
        problem.add_note("look at the input")
        raise problem from error


if __name__ == "__main__":
    with parsl.load(Config(executors=[ThreadPoolExecutor()])):
        print("before")
        first(items().result())
    print("never here")
