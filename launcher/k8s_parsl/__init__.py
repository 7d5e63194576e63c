"""Run a Parsl workflow inside a Kubernetes namespace, from one values file.

The modules stand in the order of the flow: settings -> identity -> parsl_config -> workflow -> run.
Each imports only those before it; pyproject.toml states the order and ``make check`` enforces it.
"""

from importlib.metadata import version

__version__ = version("k8s-parsl")
