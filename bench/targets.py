"""What is measured: stock ipykernel, stock jupyter_server, and a NotebookOS cluster."""
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
from pathlib import Path

from jupyter_wire import WsCells, ZmqCells, rest

ROOT = Path(__file__).resolve().parents[1]
QUIET = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what, condition, limit_s=60):
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} took more than {limit_s} s")
        time.sleep(0.01)


class StockKernel:
    """A stock ipykernel process of this Python with its own connection file."""

    def __init__(self, folder):
        ports = [free_port() for _ in range(5)]
        names = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
        self.connection = {"ip": "127.0.0.1", "transport": "tcp", "key": os.urandom(16).hex(),
                           "signature_scheme": "hmac-sha256", **dict(zip(names, ports))}
        path = os.path.join(folder, f"kernel-{ports[0]}.json")
        with open(path, "w") as file:
            json.dump(self.connection, file)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ipykernel_launcher", "-f", path], env=QUIET, cwd=folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def connect(self):
        return ZmqCells(self.connection)

    def stop(self):
        self.process.kill()
        self.process.wait()


class StockServer:
    """jupyter_server with nothing of ours in it."""

    def __init__(self, folder):
        self.token = "bench"
        self.url = f"http://127.0.0.1:{free_port()}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root",
             f"--ServerApp.port={self.url.rsplit(':', 1)[1]}", "--ServerApp.port_retries=0",
             f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={folder}"],
            env=QUIET, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        try:
            wait_until("the start of jupyter_server", self._answers)
        except BaseException:
            self.stop()
            raise

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError("jupyter_server did not start; is it installed in this environment?")
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return rest(self.url, self.token, "GET", "/api") is not None
        return False

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class OwnCluster:
    """The cluster given by url and token, or one of its own for the length of the measurement."""

    def __init__(self, folder, url=None, token=None):
        self.url, self.token = url, token
        self.command = None
        if url is None:
            self.command = [os.environ.get("NBOS_BIN", str(ROOT / "nbos"))]
            self.data = os.path.join(folder, "cluster")
            self.token = "bench"
            port = free_port()
            self.url = f"http://127.0.0.1:{port}"
            self._nbos("up", "--detach", "--no-lab", "--port", str(port), "--token", self.token,
                       "--hosts", "4")

    def _nbos(self, *arguments):
        result = subprocess.run([*self.command, *arguments, "--data", self.data],
                                capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if result.returncode:
            raise RuntimeError(f"nbos {' '.join(arguments)}: {result.stdout}{result.stderr}")

    def stop(self):
        if self.command:
            self._nbos("down")


class ServedKernel:
    """A kernel of a server or a cluster."""

    def __init__(self, server, body=None):
        self.server = server
        self.id = rest(server.url, server.token, "POST", "/api/kernels", body or {})["id"]

    def connect(self):
        return WsCells(self.server.url, self.server.token, self.id)

    def stop(self):
        rest(self.server.url, self.server.token, "DELETE", f"/api/kernels/{self.id}")


@contextlib.contextmanager
def scratch():
    folder = tempfile.mkdtemp(prefix="nbos-bench-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run(main):
    """The exit code; with --json an error is JSON as well, as of every `nbos` command."""
    try:
        return main()
    except (Exception, SystemExit) as error:
        if "--json" in sys.argv and getattr(error, "code", 1):
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        raise
