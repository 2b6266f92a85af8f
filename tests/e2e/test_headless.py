"""nbclient and papermill, unmodified: through jupyter_server's gateway client, whose WebSocket sends
no headers and so needs the token in the path."""
import json
import os
import subprocess
import sys

import nbformat
import pytest

from notebooks import EXAMPLES
from stock import QUIET


@pytest.fixture
def gateway_url(cluster):
    return f"{cluster.url}/t/{cluster.token}"


def in_gateway_mode(gateway_url, code, *arguments, cwd):
    """Runs Python code in a process of its own, because the gateway client is a singleton."""
    environment = {**os.environ, **QUIET, "JUPYTER_GATEWAY_URL": gateway_url,
                   "JUPYTER_GATEWAY_REQUEST_TIMEOUT": "60"}
    result = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=cwd, text=True,
                            capture_output=True, timeout=180, env=environment,
                            stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


NBCLIENT = """
import sys
import nbformat
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelManager
from nbclient import NotebookClient

GatewayClient.instance().init_connection_args()
notebook = nbformat.read(sys.argv[1], as_version=4)
client = NotebookClient(notebook, kernel_manager_class=GatewayKernelManager, kernel_name="",
                        timeout=120)
client.execute()
nbformat.write(notebook, sys.argv[2])
"""

PAPERMILL = """
import sys
import papermill
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelManager

GatewayClient.instance().init_connection_args()
papermill.execute_notebook(
    sys.argv[1], sys.argv[2], parameters={"rate": 3, "names": ["ash", "oak"]}, kernel_name="",
    language="python", progress_bar=False, kernel_manager_class=GatewayKernelManager)
"""


def outputs(path):
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_nbclient_runs_a_notebook(gateway_url, tmp_path):
    source = EXAMPLES / "08_classes_and_closures.ipynb"
    in_gateway_mode(gateway_url, NBCLIENT, source, tmp_path / "done.ipynb", cwd=tmp_path)
    cells = outputs(tmp_path / "done.ipynb")
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert cells[3].outputs[0].data["text/plain"] == "(['#102', '#103'], 103, True)"
    assert cells[-1].outputs[0].text.startswith("Hello, Max! {'find': 3}")


def test_nbclient_reports_the_cell_that_raises(gateway_url, tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_code_cell("x = 1"),
        nbformat.v4.new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}),
        nbformat.v4.new_code_cell("print(x)")])
    nbformat.write(notebook, tmp_path / "in.ipynb")
    in_gateway_mode(gateway_url, NBCLIENT, tmp_path / "in.ipynb", tmp_path / "out.ipynb",
                    cwd=tmp_path)
    cells = outputs(tmp_path / "out.ipynb")
    assert cells[1].outputs[0].ename == "ZeroDivisionError"
    assert cells[2].outputs[0].text == "1\n"


def test_papermill_fills_in_parameters(gateway_url, tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_code_cell("rate = 1\nnames = []", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("[rate * len(name) for name in names]")])
    notebook.metadata.kernelspec = {"name": "python3", "language": "python",
                                    "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    in_gateway_mode(gateway_url, PAPERMILL, tmp_path / "in.ipynb", tmp_path / "out.ipynb",
                    cwd=tmp_path)
    cells = outputs(tmp_path / "out.ipynb")
    assert cells[1].metadata.tags == ["injected-parameters"]
    assert cells[2].outputs[0].data["text/plain"] == "[9, 9]"
    raw = json.loads((tmp_path / "out.ipynb").read_text())
    assert raw["metadata"]["papermill"]["exception"] is None
