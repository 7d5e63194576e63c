"""Ctrl-C, once caught and once not."""

import os
import signal

import parsl
from parsl import python_app

parsl.load()


@python_app
def one():
    return 1


try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("caught", one().result())
os.kill(os.getpid(), signal.SIGINT)
signal.pause()
