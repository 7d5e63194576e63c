"""A file that it never closes, an object with a `__del__`, a folder that goes with it."""

import os
import tempfile

import parsl
from parsl import python_app

parsl.load()


@python_app
def square(x):
    return x * x


class Door:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("closed", self.name)


out = open("numbers.txt", "w")
door = Door("front")
scratch = tempfile.TemporaryDirectory(dir=".")
for x in range(3):
    out.write(f"{square(x).result()}\n")
print(os.path.getsize("numbers.txt"), os.path.isdir(scratch.name))
