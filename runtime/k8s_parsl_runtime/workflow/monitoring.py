"""Parsl's own monitoring: its database, where the values want it.

Workers send what they measure over the connection that they have (Parsl's HTEXRadio). From the
interchange it goes on inside this container, on the loopback address, to a process of Parsl's that
writes it into the run's folder.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
from typing import Any

import parsl.monitoring.monitoring as parsls
from parsl.monitoring import MonitoringHub
from parsl.monitoring.radios import zmq_router

from k8s_parsl_runtime.shared import programs
from k8s_parsl_runtime.shared.errors import ConfigurationError, describe
from k8s_parsl_runtime.shared.protocol import Message

# Before `hub` puts `receiver` in its place.
_parsls_receiver = zmq_router.zmq_router_starter


def hub(plan: Message) -> MonitoringHub | None:
    """Return what Parsl's Config has as `monitoring`.

    Raises:
        ConfigurationError: this environment lacks a package that it needs.
    """
    parsl = plan["parsl"]
    monitoring = parsl["monitoring"]
    if not monitoring["enabled"]:
        return None
    try:
        # Without sqlalchemy it raises.
        importlib.import_module("parsl.monitoring.db_manager")
    except Exception as error:  # noqa: BLE001 (a package that is broken, too)
        raise ConfigurationError(
            "parsl.monitoring.enabled: install parsl[monitoring] in the workflow's environment"
            f" (image, or laptop.python), or set it to false: {describe(error)}"
        ) from None
    parsls.dbm_starter = database
    zmq_router.zmq_router_starter = receiver
    code = plan["code"]
    return MonitoringHub(
        workflow_name=code["call"] or code["script"],
        resource_monitoring_interval=monitoring["resource_monitoring_interval"],
    )


def database(*args: Any, **kwargs: Any) -> None:
    """Run Parsl's process of the database; it ends with this one, also where that is killed."""
    _below_parent()
    from parsl.monitoring.db_manager import dbm_starter

    dbm_starter(*args, **kwargs)


def receiver(**kwargs: Any) -> None:
    """Run Parsl's process that receives from the interchange, in the same way."""
    _below_parent()
    _parsls_receiver(**kwargs)


def _below_parent() -> None:
    programs.end_with_parent()
    parent = multiprocessing.parent_process()
    if parent and not parent.is_alive():
        os._exit(0)
