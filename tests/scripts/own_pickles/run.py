"""Pickles, shelves and copies of its own classes."""

import copy
import dbm.dumb
import pickle
import shelve

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


class Node:
    def __init__(self, name, parent=None):
        self.name, self.parent = name, parent

    def __getstate__(self):
        return {"name": self.name, "parent": self.parent}

    def __eq__(self, other):
        return isinstance(other, Node) and self.name == other.name

    def __hash__(self):
        return hash(self.name)


@python_app
def renamed(node, name):
    import pickle

    with open(f"{name}.pickle", "wb") as file:
        pickle.dump({"name": node.name}, file)
    return Node(name, parent=node)


if __name__ == "__main__":
    parsl.load(Config(executors=[ThreadPoolExecutor()]))
    root = Node("root")
    child = renamed(root, "child").result()
    print(child.parent == root, pickle.loads(pickle.dumps(child)).parent.name, copy.deepcopy(child) == child)
    with open("child.pickle", "rb") as file:
        print(pickle.load(file))
    with shelve.Shelf(dbm.dumb.open("nodes")) as shelf:
        shelf["root"] = root
    with shelve.Shelf(dbm.dumb.open("nodes")) as shelf:
        print(shelf["root"] == root, type(shelf["root"]) is Node)
    print(len({root, Node("root"), child}))
