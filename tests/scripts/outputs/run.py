"""Standard output and error in many ways, and no newline at the end."""

import os
import subprocess
import sys
import warnings

import parsl
from parsl import python_app

parsl.load()


@python_app
def square(x):
    return x * x


print("to standard error", file=sys.stderr)
sys.stderr.write("also there\n")
warnings.warn("a warning of its own")
print("Grüße, 世界", square(2).result())
sys.stdout.buffer.write(b"bytes\n")
sys.stdout.flush()
os.write(1, b"by number\n")
subprocess.run(["sh", "-c", "echo from a child; echo its error >&2"], check=True)
print("a", "b", sep="\t", end=" |\n")
print()
print("x" * 70000)
print(repr(sys.stdin.read()), sys.stdout.isatty(), sys.stdout.encoding)
sys.stdout.write("the end")
