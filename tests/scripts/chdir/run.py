"""It changes its working directory, there and back."""

import os
import tempfile

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

parsl.load(
    Config(
        executors=[HighThroughputExecutor(max_workers_per_node=1, provider=LocalProvider(init_blocks=1, max_blocks=1))]
    )
)
home = os.getcwd()


@python_app
def note(text):
    with open("notes.txt", "a") as file:
        file.write(text + "\n")
    return text


# Parsl starts its workers where it is then.
print(note("before").result())
os.makedirs("inside", exist_ok=True)
os.chdir("inside")
with open("here.txt", "w") as file:
    file.write("inside\n")
print(note("from the task").result(), os.path.basename(os.getcwd()))
with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    print(os.listdir("."))
    os.chdir(home)
print(os.listdir("inside"), open("notes.txt").read().strip())
