"""Kernels of the cluster as local kernels: the kernelspec, and KernelManagers as clients have them."""
import contextlib
import json
import os
import socket
import subprocess
import uuid
from pathlib import Path

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_client.session import Session

from cluster import BINARY, poll
from conversation import ZmqConversation
from stock import QUIET, free_port

SPEC = "nbos-e2e"


def install(cluster, prefix, *options):
    """The kernelspec below `prefix`; returns what a client needs in its environment to find it."""
    Path(prefix).mkdir(parents=True, exist_ok=True)
    cluster.cli("kernelspec", "install", "--prefix", prefix, "--name", SPEC, *options)
    return {"JUPYTER_PATH": str(Path(prefix) / "share" / "jupyter"), **QUIET}


@contextlib.contextmanager
def local_kernel(**options):
    """(manager, client) of a kernel through the relay; it ends with the block."""
    manager = KernelManager(kernel_name=SPEC, **options)
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield manager, client
    finally:
        client.stop_channels()
        if manager.has_kernel:
            manager.shutdown_kernel()


def conversation_with(client):
    return ZmqConversation(client)


class Relay:
    """A relay process by hand, with a connection file of our own."""

    def __init__(self, cluster, folder, *options, environment=None, **connection):
        self.file = Path(folder) / f"kernel-{uuid.uuid4()}.json"
        self.connection = {
            "transport": "tcp", "ip": "127.0.0.1", "key": uuid.uuid4().hex,
            "signature_scheme": "hmac-sha256",
            **{f"{name}_port": free_port()
               for name in ("shell", "iopub", "stdin", "control", "hb")},
            **connection}
        self.file.write_text(json.dumps(self.connection))
        self.process = subprocess.Popen(
            [BINARY, "kernel-relay", "-f", str(self.file), "--data", str(cluster.data), *options],
            env={**os.environ, **QUIET, **(environment or {})}, stderr=subprocess.PIPE, text=True,
            stdin=subprocess.DEVNULL)

    @contextlib.contextmanager
    def client(self, ready=True, key=None):
        """A BlockingKernelClient whose channels run."""
        # A client calls a kernel dead whose heartbeat is not there within a second.
        poll("its heartbeat socket is bound", self._is_bound, 60)
        client = BlockingKernelClient(connection_file=str(self.file))
        client.load_connection_file()
        if key is not None:
            client.session = Session(key=key)
        client.start_channels()
        try:
            if ready:
                client.wait_for_ready(timeout=60)
            yield client
        finally:
            client.stop_channels()

    def _is_bound(self):
        if self.connection["transport"] == "ipc":
            return Path(f"{self.connection['ip']}-{self.connection['hb_port']}").exists()
        with contextlib.suppress(ConnectionError):
            socket.create_connection((self.connection["ip"], self.connection["hb_port"])).close()
            return True
        return False

    def wait(self, timeout=30):
        """(exit code, what it said on standard error)."""
        _, said = self.process.communicate(timeout=timeout)
        return self.process.returncode, said

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.wait()
