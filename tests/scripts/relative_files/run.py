"""Input and output by relative paths, in the script and in its apps."""

import csv
import os

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


@python_app
def summed(path, column):
    import csv

    with open(path) as file:
        return sum(float(row[column]) for row in csv.DictReader(file))


@python_app
def stored(name, text):
    import os

    os.makedirs("results/parts", exist_ok=True)
    with open(f"results/parts/{name}.txt", "w") as file:
        file.write(text)
    return os.path.getsize(f"results/parts/{name}.txt")


if __name__ == "__main__":
    parsl.load(
        Config(
            executors=[
                HighThroughputExecutor(max_workers_per_node=2, provider=LocalProvider(init_blocks=1, max_blocks=1))
            ]
        )
    )
    print(os.path.exists("input/depths.csv"), open("title.txt").read().strip())
    with open("input/depths.csv") as file:
        columns = [name for name in csv.DictReader(file).fieldnames if name != "place"]
    totals = {column: summed("input/depths.csv", column).result() for column in columns}
    print(totals)
    print([stored(name, str(total)).result() for name, total in totals.items()])
    with open("totals.csv", "w") as out:
        csv.writer(out).writerows(sorted(totals.items()))
    print(sorted(os.listdir("results/parts")), open("results/parts/shallow.txt").read())
