"""A Config of the user's own: its parts are made where they cannot work, as it is set aside.

A script that has run elsewhere names clusters, networks and libraries that are not here. Its
workers import it, too.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import parsl.executors
import parsl.providers
from parsl import addresses
from parsl.monitoring import MonitoringHub

log = logging.getLogger(__name__)

# Functions of `parsl.addresses` that fail without a certain network.
ADDRESSES = ("address_by_interface", "address_by_query", "address_by_route")
# Attributes of a provider that its executor reads when it is made.
READ_OF_PROVIDERS = ("cores_per_node", "mem_per_node")


def tolerate() -> None:
    """Replace what may fail; call this before any module of the user's is imported."""
    for name in ADDRESSES:
        setattr(addresses, name, _tolerant_address(getattr(addresses, name)))
    for kind in _parts():
        kind.__init__ = _tolerant_init(kind.__init__)  # type: ignore[misc]


def _tolerant_address(parsls: Any) -> Any:
    """Let a script make a Config that names a network which is not here."""

    @functools.wraps(parsls)
    def tolerant(*args: Any, **kwargs: Any) -> Any:
        try:
            return parsls(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 (of a part that is set aside anyway)
            log.info("%s: not here, and not needed: %s", parsls.__name__, error)
            return "127.0.0.1"

    return tolerant


def _parts() -> Iterator[type]:
    """Yield Parsl's executors and providers, and what else a script's own Config may have."""
    yield MonitoringHub
    for module in (parsl.executors, parsl.providers):
        for name in module.__all__:
            if name != "HighThroughputExecutor":
                yield getattr(module, name)
    with suppress(ImportError):
        from parsl.executors.taskvine import TaskVineExecutor

        yield TaskVineExecutor


def _tolerant_init(init: Any) -> Any:
    """Let a script make a Config whose parts cannot work here.

    One needs a kubeconfig, another a library that is missing. `parsl.load` sets the Config aside
    anyway; a script that uses such a part itself gets an error then.
    """

    @functools.wraps(init)
    def tolerant(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            init(self, *args, **kwargs)
        except TypeError:
            raise  # a misspelt argument, as anywhere
        except Exception as error:  # noqa: BLE001 (of a part that is set aside anyway)
            log.info(
                "%s of the workflow's own cannot be used here, and is not needed: %s",
                type(self).__name__,
                error,
            )
            _set_attributes(self, init, args, kwargs)

    return tolerant


def _set_attributes(part: Any, init: Any, args: Any, kwargs: Any) -> None:
    """Set what `__init__` was called with as attributes, as another part may read them."""
    bound = inspect.signature(init).bind(part, *args, **kwargs)
    bound.apply_defaults()
    without_self = list(bound.arguments.items())[1:]
    for name, value in without_self:
        with suppress(AttributeError):
            setattr(part, name, value)
    for name in READ_OF_PROVIDERS:
        if not hasattr(part, name):
            setattr(part, name, None)
