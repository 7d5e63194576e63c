"""It leaves without any of the usual ends."""

import atexit
import os
import sys

import parsl
from parsl import python_app

atexit.register(print, "never here")
parsl.load()


@python_app
def four():
    return 4


print("leaving")
sys.stdout.flush()
os._exit(four().result())
