"""Stock Jupyter, to compare with and to try the harness on: a kernel, and a server."""
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from jupyter_client.manager import KernelManager

from conversation import ZmqConversation

# Both sides run with this: debugpy's remark about frozen modules is no output of a cell, and the
# random hash seed would order sets differently in every process.
QUIET = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def stock_kernel(workdir):
    """A Conversation with a stock ipykernel of this very Python, over ZeroMQ."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(workdir), env={**os.environ, **QUIET},
                         stderr=subprocess.DEVNULL)
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=180)
        yield ZmqConversation(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


class Rest:
    """The REST side of a Jupyter server: (status, decoded body) for every call."""

    def __init__(self, url, token):
        self.url = url.rstrip("/")
        self.token = token

    def call(self, method, path, body=None, token=..., timeout=60, headers=()):
        token = self.token if token is ... else token
        request = urllib.request.Request(self.url + path, method=method)
        for name, value in headers:
            request.add_header(name, value)
        if token is not None:
            request.add_header("Authorization", f"token {token}")
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, data, timeout) as response:
                return response.status, self._decode(response.read())
        except urllib.error.HTTPError as error:
            return error.code, self._decode(error.read())

    @staticmethod
    def _decode(raw):
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            return raw

    def start_kernel(self, name=None, workdir=None, **body):
        if name:
            body["name"] = name
        if workdir:
            body["env"] = {"KERNEL_WORKING_DIR": str(workdir), **QUIET, **body.get("env", {})}
        status, model = self.call("POST", "/api/kernels", body)
        assert status == 201, (status, model)
        return model["id"]


class StockServer(Rest):
    """jupyter_server with nothing of ours in it."""

    def __init__(self, root, token="stock-token", *options):
        port = free_port()
        super().__init__(f"http://127.0.0.1:{port}", token)
        self.log = open(os.path.join(root, "stock-server.log"), "wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root",
             f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1",
             f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}", *options],
            stdout=self.log, stderr=self.log, env={**os.environ, **QUIET})
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                if self.call("GET", "/api")[0] == 200:
                    return
            assert self.process.poll() is None, open(self.log.name).read()
            time.sleep(0.1)
        raise TimeoutError("the stock server does not answer: " + open(self.log.name).read())

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
