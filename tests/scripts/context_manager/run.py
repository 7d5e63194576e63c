"""`with parsl.load`, from a main that returns."""

import parsl
from parsl.app.app import python_app
from parsl.configs.htex_local import config


@python_app
def double(x):
    return 2 * x


def main():
    config.executors[0].max_workers_per_node = 2
    with parsl.load(config) as dfk:
        print(double(21).result(), type(dfk).__mro__[-2].__name__, dfk is parsl.dfk())
    print("outside")


if __name__ == "__main__":
    main()
    print("after main")
