"""What calls of apps ask for: executors and resources that there are not, and files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from parsl.data_provider.files import File

from k8s_parsl_runtime.shared.errors import ConfigurationError, Failure

log = logging.getLogger(__name__)

# Parsl's executor of join_apps and the like.
INTERNAL = "_parsl_internal"
# The argument by which a call says what it needs.
NEEDS = "parsl_resource_specification"
# The keys of it that the HighThroughputExecutor reads.
OUR_NEEDS = {"priority"}
# The arguments with files that Parsl stages; it replaces them in the list by its own.
FILES = ("inputs", "outputs")
FILE = "File({value!r}) (from parsl.data_provider.files import File)"


def without_internal(labels: Collection[str]) -> list[str]:
    """Return the labels of the executors that run the workflow's tasks."""
    return [label for label in labels if label != INTERNAL]


class AppOptions:
    """Maps executors and resources that a script asks for to those that there are.

    Each mapping is logged once.

    Args:
        on_fault: gets the failure that ends the run.
    """

    def __init__(self, on_fault: Callable[[Failure], None]) -> None:
        self._on_fault = on_fault
        # Labels and apps whose mapping is in the log.
        self._mapped_labels: set[str] = set()
        self._mapped_apps: set[str] = set()

    def executors(
        self, app: str, asked: str | Sequence[str], labels: Collection[str]
    ) -> str | list[str]:
        """Return the executors that a task may run on, as Parsl takes them.

        Args:
            app: its app.
            asked: the executors that the app names, or "all".
            labels: the executors that there are, with Parsl's own.

        Raises:
            ConfigurationError: it names none of them, and there are several to choose from.
        """
        if isinstance(asked, str):
            return asked
        known = [label for label in asked if label in labels]
        if known:
            return known
        ours = without_internal(labels)
        if len(ours) != 1:
            raise self._unknown(app, asked, ours)
        for label in set(asked) - self._mapped_labels:
            log.info("app %s names executor %s: it runs on %s", app, label, ours[0])
            self._mapped_labels.add(label)
        return ours

    def _unknown(self, app: str, asked: Sequence[str], ours: list[str]) -> Failure:
        fault = ConfigurationError(
            f"app {app} names executor {', '.join(asked)}, which is not under executors "
            f"(there are: {', '.join(sorted(ours))})"
        )
        self._on_fault(fault)
        return fault

    def arguments(self, app: str, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return a call's arguments as Parsl and the HighThroughputExecutor take them.

        Without resources of another executor, as Work Queue's cores.

        Raises:
            TypeError: `inputs` or `outputs` are not what Parsl takes.
        """
        _check_files(app, kwargs)
        needs = kwargs.get(NEEDS) or {}
        foreign = needs.keys() - OUR_NEEDS
        if not foreign:
            return kwargs
        if app not in self._mapped_apps:
            log.info(
                "app %s: %s asks for %s: set aside; see executors.<label>.coresPerWorker",
                app,
                NEEDS,
                ", ".join(sorted(foreign)),
            )
            self._mapped_apps.add(app)
        ours = {name: needs[name] for name in OUR_NEEDS if name in needs}
        return kwargs | {NEEDS: ours}


def _check_files(app: str, kwargs: Mapping[str, Any]) -> None:
    for name in FILES:
        value = kwargs.get(name, ())
        is_list = hasattr(type(value), "__setitem__")
        if not is_list and value != ():
            raise TypeError(f"app {app}: {name} is a {type(value).__name__}: Parsl takes a list")
    for value in kwargs.get("outputs") or ():
        if not isinstance(value, File):
            file = FILE.format(value=str(value))
            raise TypeError(
                f"app {app}: outputs has a {type(value).__name__}: Parsl takes files: {file}"
            )
