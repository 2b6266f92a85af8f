"""JupyterLab's own kernel client under Node, unmodified: services/client.mjs, in both framings, against
our gateway itself and against a jupyter_server in front of it (`jupyter lab --gateway-url`), with our
connection class and without. Each of its cases is a case here."""
import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stock import StockServer

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "services" / "client.mjs"
NAMES = re.findall(r"^test\('([^']+)'", SCRIPT.read_text(), re.MULTILINE)
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    not NODE or not (HERE.parent / "node_modules" / "@jupyterlab").exists(),
    reason="needs Node and the packages of tests/package.json (npm ci --prefix tests)")


CONNECTION = "--ServerApp.kernel_websocket_connection_class=nbos_jupyter_server.connection.Connection"


@pytest.fixture(scope="module")
def faces(cluster, tmp_path_factory):
    """face -> (URL, token)"""
    with contextlib.ExitStack() as stack:
        found = {"bare": (cluster.url, cluster.token)}
        for face, *options in [("server", CONNECTION), ("plain",)]:
            server = StockServer(str(tmp_path_factory.mktemp(face)), "front-token",
                                 f"--gateway-url={cluster.url}",
                                 f"--GatewayClient.auth_token={cluster.token}", *options)
            stack.callback(server.stop)
            found[face] = (server.url, server.token)
        yield found


@pytest.fixture(scope="module", params=["bare-v1", "bare-legacy", "server-v1", "server-legacy",
                                        "plain-legacy"])
def results(request, faces):
    """name of a case -> what it failed with, empty if it did not; "output": all that was said."""
    face, framing = request.param.split("-")
    url, token = faces[face]
    result = subprocess.run(
        [NODE, str(SCRIPT)], cwd=HERE, capture_output=True, text=True, timeout=400,
        stdin=subprocess.DEVNULL, env={**os.environ, "NBOS_URL": url, "NBOS_TOKEN": token,
                                       "NBOS_FRAMING": framing, "NBOS_FACE": face})
    cases = {"output": result.stdout + result.stderr}
    for verdict, name, detail in re.findall(r"^(ok|not ok) - (.*)\n((?:  # .*\n)*)", result.stdout,
                                            re.MULTILINE):
        cases[name] = "" if verdict == "ok" else detail or "failed"
    return cases


@pytest.mark.parametrize("name", NAMES)
def test_services(results, name):
    assert name in results, f"did not run:\n{results['output']}"
    assert not results[name], f"{results[name]}\n{results['output']}"
