"""sys.exit(0) in the middle, after which nothing comes."""

import sys

import parsl
from parsl import python_app

parsl.load()


@python_app
def wrote(name):
    with open(name, "w") as file:
        file.write("done\n")


wrote("mark.txt").result()
print("enough")
sys.exit(0)
print("never here")
