#!/usr/bin/env python3
"""Its arguments by argparse."""

import argparse
import os
import sys

import parsl
from parsl import python_app


@python_app
def greet(name, times):
    return " ".join([name] * times)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    if args.verbose:
        print(os.path.basename(sys.argv[0]), sys.argv[1:])
    parsl.load()
    for future in [greet(name, args.times) for name in args.names]:
        print(future.result())
    return 0


if __name__ == "__main__":
    sys.exit(main())
