"""JupyterLab's own kernel client under Node, unmodified: services/client.mjs, in both framings.
Each of its cases is a case here."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "services" / "client.mjs"
NAMES = re.findall(r"^test\('([^']+)'", SCRIPT.read_text(), re.MULTILINE)
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    not NODE or not (HERE.parent / "node_modules" / "@jupyterlab").exists(),
    reason="needs Node and the packages of tests/package.json (npm ci --prefix tests)")


@pytest.fixture(scope="module", params=["v1", "legacy"])
def results(request, cluster):
    """name of a case -> what it failed with, empty if it did not; "output": all that was said."""
    result = subprocess.run(
        [NODE, str(SCRIPT)], cwd=HERE, capture_output=True, text=True, timeout=400,
        stdin=subprocess.DEVNULL, env={**os.environ, "NBOS_URL": cluster.url,
                                       "NBOS_TOKEN": cluster.token, "NBOS_FRAMING": request.param})
    cases = {"output": result.stdout + result.stderr}
    for verdict, name, detail in re.findall(r"^(ok|not ok) - (.*)\n((?:  # .*\n)*)", result.stdout,
                                            re.MULTILINE):
        cases[name] = "" if verdict == "ok" else detail or "failed"
    return cases


@pytest.mark.parametrize("name", NAMES)
def test_services(results, name):
    assert name in results, f"did not run:\n{results['output']}"
    assert not results[name], f"{results[name]}\n{results['output']}"
