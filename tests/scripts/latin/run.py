# -*- coding: latin-1 -*-
"""Another encoding than UTF-8."""

import parsl
from parsl import python_app

parsl.load()


@python_app
def word():
    return "größer"


print(word().result(), len(word().result()))
