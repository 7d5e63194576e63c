"""Its own hooks for what goes wrong: in a thread, and at the end."""

import sys
import threading

import parsl
from parsl import python_app

parsl.load()


@python_app
def square(x):
    return x * x


def in_thread(args):
    print("in thread:", args.exc_type.__name__, args.exc_value)


def at_the_end(kind, value, traceback):
    print("at the end:", kind.__name__, value, traceback.tb_frame.f_code.co_name, traceback.tb_next)


def fail():
    raise KeyError(square(2).result())


threading.excepthook = in_thread
thread = threading.Thread(target=fail)
thread.start()
thread.join()
sys.excepthook = at_the_end
raise LookupError("not there")
