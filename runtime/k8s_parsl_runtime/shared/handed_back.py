"""The message by which a worker pool hands a task back to the interchange.

To Parsl's interchange it is the task's result. Behind the pickled result it has a mark, which
pickle does not read, so that a result is looked at by its end alone.
"""

from __future__ import annotations

import pickle
from typing import Any

_MARK = b"k8s-parsl: handed back"


def pack(manager: str, task: dict[str, Any]) -> bytes:
    """Return the message for a task.

    Args:
        manager: the name of its pool's manager.
        task: as the interchange has sent it.
    """
    result = {"type": "result", "task_id": task["task_id"], "manager": manager, "task": task}
    return pickle.dumps(result) + _MARK


def is_task(message: bytes) -> bool:
    """Return whether what looks like a result is a task that is handed back."""
    return message.endswith(_MARK)


def unpack(message: bytes) -> tuple[bytes, dict[str, Any]]:
    """Return the name of the manager, and the task."""
    # From a worker pool, like each result.
    result = pickle.loads(message)  # noqa: S301
    return result["manager"].encode(), result["task"]
