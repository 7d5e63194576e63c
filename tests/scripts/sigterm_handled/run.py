"""It ends by a SIGTERM that it handles itself."""

import os
import signal
import sys

import parsl
from parsl import python_app

parsl.load()


@python_app
def one():
    return 1


def leave(number, frame):
    print("asked to end:", signal.Signals(number).name)
    sys.exit(7)


signal.signal(signal.SIGTERM, leave)
print(one().result())
os.kill(os.getpid(), signal.SIGTERM)
print("never here")
