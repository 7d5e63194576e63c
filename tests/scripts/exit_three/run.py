"""sys.exit(3), and a `finally` on the way."""

import sys

import parsl
from parsl import python_app


@python_app
def code():
    return 3


def main():
    parsl.load()
    try:
        sys.exit(code().result())
    finally:
        print("finally")


if __name__ == "__main__":
    main()
