"""sys.exit() as the last word of a main that returns nothing; an odd number's lowest byte would be the status."""

import sys

import parsl
from parsl import python_app


@python_app
def nothing():
    return None


def main():
    parsl.load()
    print(nothing().result())


if __name__ == "__main__":
    sys.exit(main())
