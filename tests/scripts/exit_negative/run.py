"""A status that does not fit into a byte, by the builtin."""

import parsl

with parsl.load():
    print("leaving")
exit(-1)
