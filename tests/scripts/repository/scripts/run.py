"""In a folder of its repository beside those of modules and data, which it finds from there."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import parsl  # noqa: E402
from parsl import python_app  # noqa: E402
from parsl.config import Config  # noqa: E402
from parsl.executors import ThreadPoolExecutor  # noqa: E402
from src.model import Model  # noqa: E402


@python_app
def fitted(path):
    return Model.read(path).fit()


if __name__ == "__main__":
    parsl.load(Config(executors=[ThreadPoolExecutor()]))
    points = ROOT / "data" / "points.txt"
    print(Model.read(points).fit(), fitted(points).result())
    os.makedirs("output", exist_ok=True)
    with open("output/fit.txt", "w") as file:
        file.write("done\n")
