"""Has a module beside it, and is in a subfolder."""

from helper import double
from parsl import python_app


@python_app
def work(x):
    return double(x)


print("doubles:", [work(x).result() for x in range(3)])
