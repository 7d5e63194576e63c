"""The workflow's process imports Kubernetes' client when the user's code uses it, and not before."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORTS = """
import sys
from k8s_parsl_runtime.shared import imports
with imports.client_later():
    from parsl.providers import KubernetesProvider
    from parsl.providers.kubernetes import kube
assert not [name for name in sys.modules if name.startswith("kubernetes")]
"""


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "use",
    [
        "import kubernetes; assert kube.client.V1Pod is kubernetes.client.V1Pod",
        "from kubernetes import client, config; assert kube.config.load_config is config.load_config",
        "import kubernetes.client.models as models; assert kube.client.V1Pod is models.V1Pod",
        "assert kube.config.config_exception.ConfigException.__module__.startswith('kubernetes')",
        "assert kube.client.V1Pod().to_dict()['spec'] is None",
    ],
)
def test_it_is_the_client_once_it_is_used(use):
    run(IMPORTS + use)


def test_a_provider_of_the_workflows_own_reads_the_kubeconfig(tmp_path):
    use = (
        "import os\n"
        f"os.environ['KUBECONFIG'] = {str(tmp_path / 'none')!r}\n"
        "try:\n    KubernetesProvider(image='i')\n"
        "except Exception as error:\n    said = type(error).__name__\n"
        "assert said == 'ConfigException', said"
    )
    run(IMPORTS + use)


def test_where_it_is_not_installed_parsl_says_so():
    hidden = "import sys; sys.modules['kubernetes'] = None\n"
    code = IMPORTS.replace("assert not", "del sys.modules['kubernetes']; assert not")
    use = "assert not kube._kubernetes_enabled"
    run(hidden + code + use)


def test_where_it_is_imported_already_it_stays():
    run(
        "import kubernetes\n"
        "from k8s_parsl_runtime.shared import imports\n"
        "with imports.client_later():\n    from parsl.providers.kubernetes import kube\n"
        "assert kube.client is kubernetes.client"
    )
