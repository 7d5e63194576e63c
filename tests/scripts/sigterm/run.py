"""It ends by a SIGTERM without a handler."""

import os
import signal

import parsl
from parsl import python_app

parsl.load()


@python_app
def one():
    return 1


print(one().result(), flush=True)
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
