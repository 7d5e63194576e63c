"""Which names does Python's standard library use most? Many small tasks, and one that holds all
they found.

They run on two kinds of worker pods: `count` names executor cpu, `merge` names executor highmem.
"""

from parsl import python_app


@python_app(executors=["cpu"], cache=True)
def count(files):
    """How often each name is read in these files, and on which pod that was found out."""
    import ast
    import collections
    import socket
    from pathlib import Path

    found = collections.Counter()
    for file in files:
        tree = ast.parse(Path(file).read_bytes())
        found.update(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return found, socket.gethostname()


@python_app(executors=["highmem"])
def merge(parts):
    """All counts in one, and the pod that held them."""
    import collections
    import socket

    total = collections.Counter()
    for found in parts:
        total.update(found)
    return total, socket.gethostname()


def main(batch=20):
    """The names used most; ``batch``: files that one task reads."""
    import sysconfig
    from pathlib import Path

    files = sorted(map(str, Path(sysconfig.get_path("stdlib")).glob("*.py")))
    futures = [count(files[start : start + batch]) for start in range(0, len(files), batch)]
    counted = [future.result() for future in futures]
    # Only now is there a task for highmem, and so a pod.
    total, merged_on = merge([found for found, _ in counted]).result()
    print(
        f"{len(files)} files use {len(total)} names {total.total()} times; most of all {total.most_common(1)[0][0]}"
    )
    print(f"counted on {', '.join(sorted({host for _, host in counted}))}; merged on {merged_on}")
    return {
        "files": len(files),
        "names": len(total),
        "most": dict(total.most_common(10)),
        "merged_on": merged_on,
    }
