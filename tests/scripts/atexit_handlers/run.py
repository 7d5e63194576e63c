"""Exit handlers, registered before and after Parsl is loaded, and prints after the end."""

import atexit
import sys
import weakref

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


class Thing:
    pass


@atexit.register
def first():
    print("first registered, last called")


parsl.load(Config(executors=[ThreadPoolExecutor()]))


@python_app
def square(x):
    return x * x


@atexit.register
def with_a_task():
    print("a task in an exit handler:", square(3).result() if with_tasks else "none")


with_tasks = False
thing = Thing()
weakref.finalize(thing, print, "finalized")
atexit.register(sys.stderr.write, "to standard error\n")
dropped = atexit.register(print, "never here")
atexit.unregister(dropped)


def failing():
    raise RuntimeError("an exit handler fails")


atexit.register(failing)
print(square(2).result())
