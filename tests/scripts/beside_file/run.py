"""It finds what lies beside it by `__file__`, by `sys.argv[0]`, by `os.getcwd` and by `inspect`."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import parsl
from parsl import python_app

HERE = Path(__file__).resolve().parent


@python_app
def read(path):
    import json

    with open(path) as file:
        return json.load(file)["answer"]


if __name__ == "__main__":
    parsl.load()
    print(json.loads((HERE / "data.json").read_text()), read(str(HERE / "data.json")).result())
    print(json.load(open(os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "data.json"))))
    print(json.load(open(os.path.join(os.getcwd(), "data.json"))))
    print(os.path.basename(sys.argv[0]), os.path.basename(__file__), os.path.basename(inspect.getfile(read.func)))
    print(os.path.isabs(__file__), os.path.basename(inspect.stack()[0].filename), sys.path[0] == str(HERE))
    print(subprocess.run([sys.executable, "child.py", "x"], capture_output=True, text=True, check=True).stdout, end="")
    print(
        subprocess.run(
            [sys.executable, str(HERE / "child.py"), "y"], capture_output=True, text=True, check=True
        ).stdout,
        end="",
    )
