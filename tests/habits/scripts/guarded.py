"""What is set under the guard is a global of the module."""

import argparse

from parsl import python_app


@python_app
def square(x):
    return x * x


def main():
    print("squares:", [future.result() for future in [square(x) for x in range(options.count)]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=3)
    options = parser.parse_args()
    main()
