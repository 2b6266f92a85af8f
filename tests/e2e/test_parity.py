"""The example notebooks give the same outputs as on stock ipykernel, cell by cell: undisturbed, with
the executor migrated between every two cells, and with its host killed between every two cells."""
import pytest

from notebooks import NAMES, differences, run_notebook
from stock import stock_kernel


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """name -> what stock ipykernel gives; each notebook runs once."""
    known = {}

    def get(name):
        if name not in known:
            workdir = tmp_path_factory.mktemp("stock")
            with stock_kernel(workdir) as conversation:
                known[name] = run_notebook(name, conversation, workdir)
        return known[name]

    return get


def undisturbed(cluster, kernel_id):
    return lambda index: None


def migrated(cluster, kernel_id):
    def between(_):
        cluster.migrate(kernel_id)
    return between


def host_killed(cluster, kernel_id):
    def between(_):
        # Whole first: of three replicas one may be lost.
        cluster.wait_replicas(kernel_id)
        host = cluster.executor_host(kernel_id)
        cluster.kill_host(host)
        cluster.start_host(host)
    return between


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trouble", [undisturbed, migrated, host_killed])
def test_example_gives_what_stock_ipykernel_gives(cluster, expected, trouble, name, tmp_path):
    kernel_id = cluster.start_kernel(workdir=tmp_path)
    try:
        with cluster.connect(kernel_id) as conversation:
            actual = run_notebook(name, conversation, tmp_path, trouble(cluster, kernel_id))
    finally:
        cluster.forget(kernel_id)
    report = differences(name, expected(name), actual)
    assert not report, report
