"""Which cluster the tests may use: one that was named on purpose, never the one of KUBECONFIG."""

from __future__ import annotations

import functools
import os
import signal
import tempfile
from pathlib import Path

import pytest

from testbed.layout import kubeconfig

# What is ignored here (by `nohup`, by a shell for what runs in the background) would be ignored by
# every program that the tests start, too.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler)

GIVEN = os.environ.pop("KUBECONFIG", None)  # It may be a production cluster.
ON_CEPH = ("test_ceph.py", "test_cephfs.py", "test_vault.py")
HOW = "make cluster, or TEST_KUBECONFIG=file"


def cluster() -> Path | None:
    """Return the kubeconfig of the cluster to test on."""
    if named := os.environ.get("TEST_KUBECONFIG"):
        return Path(named)
    return kubeconfig() if kubeconfig().is_file() else None


def pytest_configure(config):
    found = cluster()
    if found is None and os.environ.get("REQUIRE_CLUSTER") == "1":
        raise pytest.UsageError(f"REQUIRE_CLUSTER=1, and there is no cluster: {HOW}")
    if found is not None:
        if not found.is_file():
            raise pytest.UsageError(f"TEST_KUBECONFIG: there is no file {found}")
        # pytest-helm-charts asks for it by this name.
        os.environ["KUBECONFIG"] = str(found)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Return more than there are cores, as many tests wait; with a cluster less, as that computes."""
    return (os.cpu_count() or 1) + (1 if cluster() else 2)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process the next test, but all tests that share something to one process.

    Not xdist_group: pytest 9.2 does not take the name that pytest-xdist 3.8 gives a test for it.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByShared(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _shared(config.rootpath / nodeid.partition("::")[0]) or nodeid

    return ByShared(config, log)


@functools.cache
def _shared(file: Path) -> str:
    """Return what all tests of a file share; empty if they share nothing."""
    # Some test stops these servers, or they take long to start.
    if file.name in ON_CEPH:
        return "the testbed's Ceph and Vault"
    # What is rendered once is kept in the process, and so is a fixture for a whole file.
    is_shared = file.parent.name == "chart" or 'scope="module"' in file.read_text("utf-8")
    return str(file) if is_shared else ""


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory):
    """Delete the temporary files of tests and of processes that they kill, such as keys.

    Short, as sockets are made there; and after pytest has chosen its own folders, which stay to be
    looked at.
    """
    tmp_path_factory.getbasetemp()
    with (
        tempfile.TemporaryDirectory(prefix="kp-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


def pytest_collection_modifyitems(config, items):
    if cluster() is not None:
        # First those that wait, so that others compute meanwhile.
        items.sort(key=lambda item: item.get_closest_marker("cluster") is None)
        return
    left_out = [item for item in items if item.get_closest_marker("cluster")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


# How many tests were left out, by their mark.
LEFT_OUT = pytest.StashKey[dict[str, int]]()
WHY = {
    "cluster": f"cluster tests, as there is no cluster ({HOW})",
    "slow": "slow tests (CONTRIBUTING.md names their commands)",
}


def pytest_deselected(items):
    """Count them, but not those that `-k` or `-m` of the command line left out."""
    if not items:
        return
    config = items[0].config
    counts = config.stash.setdefault(LEFT_OUT, dict.fromkeys(WHY, 0))
    applies = {"cluster": cluster() is None, "slow": config.getoption("markexpr") == "not slow"}
    for item in items:
        mark = next((mark for mark in WHY if applies[mark] and item.get_closest_marker(mark)), None)
        if mark:
            counts[mark] += 1


def pytest_sessionfinish(session):
    """Send the counts to the process that prints them: only those that run the tests have them."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Each of them has seen all tests."""
    told = getattr(node, "workeroutput", {}).get("left_out")
    if told:
        node.config.stash[LEFT_OUT] = told


def pytest_terminal_summary(terminalreporter, config):
    for mark, count in config.stash.get(LEFT_OUT, {}).items():
        if count:
            terminalreporter.write_line(f"left out: {count} {WHY[mark]}", yellow=True)
