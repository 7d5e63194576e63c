"""The apps of `alone`, in a module, as Parsl's workers need it."""

import os

from content import note_process, pieces
from parsl import python_app


@python_app(cache=True)
def make(number, target, pids):
    note_process(pids)
    # "The resumed download skips any tile file that isn't empty."
    if os.path.exists(target) and os.path.getsize(target):
        return number
    with open(target, "wb") as file:
        for piece in pieces(number):
            file.write(piece)
            file.flush()
    return number


@python_app(cache=True)
def add(number, target, pids):
    note_process(pids)
    with open(target, "a") as file:
        file.write(f"{number}\n")
    return number
