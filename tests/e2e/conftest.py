"""Fixtures of the end-to-end tests. They need the project's Python environment and a built nbos.

NBOS_BIN     the nbos to test; default: the launcher at the root of the repository
NBOS_LIMITS  with test_limits.py, which takes minutes and much memory; `./nbos test --long` sets it
"""
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from cluster import ROOT, Cluster
from local_kernel import install
from stock import StockServer


collect_ignore = [] if os.environ.get("NBOS_LIMITS") else ["test_limits.py"]


@pytest.fixture(scope="session")
def cluster_folder():
    # Short, because Unix sockets below it have at most 107 characters for their path.
    folder = Path(tempfile.mkdtemp(prefix="nbos-e2e-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def running(cluster, name):
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.keep_logs(ROOT / "build" / "test-output" / "e2e" / name)
        cluster.down()


@pytest.fixture(scope="session")
def cluster(cluster_folder):
    """Four hosts, shared by all tests that leave it as they found it."""
    yield from running(Cluster(cluster_folder / "shared"), "shared")


@pytest.fixture(scope="session")
def stock_server(cluster_folder):
    root = cluster_folder / "stock"
    root.mkdir()
    server = StockServer(str(root))
    yield server
    server.stop()


@pytest.fixture
def kernel(cluster):
    """The id of a fresh kernel with three ready replicas."""
    kernel_id = cluster.start_kernel()
    cluster.wait_replicas(kernel_id)
    yield kernel_id
    cluster.forget(kernel_id)


@pytest.fixture
def local_kernels(cluster, tmp_path, monkeypatch):
    """The environment in which local_kernel.SPEC is a kernelspec; set for this process too."""
    environment = install(cluster, tmp_path / "prefix")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment
