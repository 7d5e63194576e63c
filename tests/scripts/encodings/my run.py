"""A byte order mark, and lines that end as on Windows."""

import parsl
from parsl import python_app

parsl.load()


@python_app
def word():
    return "größer"


def kind(x: int):
    return kind.__annotations__


print(word().result(), kind(1), __doc__)
