"""It forks: a child that leaves at once, one that ends as any Python does, one that becomes another program."""

import atexit
import os
import sys

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor

parent = os.getpid()


@atexit.register
def bye():
    print("bye", os.getpid() == parent, flush=True)


def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@python_app
def square(x):
    return x * x


pid = os.fork()
if pid == 0:
    print("a child that ends as usual", flush=True)
    sys.exit(5)
print(status_of(pid), flush=True)

parsl.load(Config(executors=[ThreadPoolExecutor()]))
print(square(3).result(), flush=True)
pid = os.fork()
if pid == 0:
    print("a child that leaves at once", flush=True)
    os._exit(6)
print(status_of(pid), flush=True)
pid = os.fork()
if pid == 0:
    os.execvp("sh", ["sh", "-c", "echo another program; exit 7"])
print(status_of(pid), flush=True)
print(square(4).result())
