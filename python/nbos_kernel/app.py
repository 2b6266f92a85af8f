"""One interpreter as a process: stock ipykernel whose sockets are files in one directory.

`D/shell`, `D/control`, `D/stdin`, `D/iopub`, `D/hb`, all ipc and without HMAC: the directory, which
belongs to the agent and has mode 0700, is the protection.

Started by the zygote (zygote.py), or by itself:
    NBOS_TOKEN=T python -m nbos_kernel.app --dir D --state-socket PATH
"""

import argparse
import logging
import os
import sys
import threading

import zmq
from ipykernel.heartbeat import Heartbeat
from ipykernel.kernelapp import IPKernelApp
from traitlets import default
from traitlets.config import Config

from . import memory
from .history import install as install_history
from .interpreter import NbosKernel
from .kept import KeptSession
from .link import Link
from .outflow import BoundedStream, Outflow, bound_recording, bound_socket

CHANNELS = ("shell", "stdin", "hb", "iopub", "control")
_PORT_OF = {name: number for number, name in enumerate(CHANNELS, start=1)}


class _FileHeartbeat(Heartbeat):
    def _try_bind_socket(self):
        return self.socket.bind(f"ipc://{self.ip}/hb")


class _NoSubshells:
    """Takes the place of ipykernel 7's shell channel thread.

    Cells of one kernel run one after the other, so subshells are not offered, and requests need no
    hop through a second thread. False for "is there a thread", but says who the main thread is.
    """

    def __init__(self):
        self.parent_thread = threading.current_thread()

    def __bool__(self):
        return False


class NbosKernelApp(IPKernelApp):
    """An IPKernelApp that binds files instead of ports and writes no connection file."""

    kernel_class = NbosKernel
    outstream_class = f"{BoundedStream.__module__}.{BoundedStream.__qualname__}"

    def parse_command_line(self, argv=None):
        """There is none: building a parser for it would cost a tenth of the start."""
        self.extra_args = []

    @default("session")
    def _session_default(self):
        """Without a key: the sockets are files that only this user can reach. No warning of that."""
        level = self.log.level
        self.log.setLevel(logging.ERROR)
        try:
            return KeptSession(parent=self)
        finally:
            self.log.setLevel(level)

    def init_connection_file(self):
        self.transport = "ipc"
        for name, number in _PORT_OF.items():
            setattr(self, f"{name}_port", number)

    def write_connection_file(self, **kwargs):
        pass

    def log_connection_info(self):
        self._ports = dict(_PORT_OF)

    def cleanup_connection_file(self):
        pass

    def _try_bind_socket(self, s, port):
        if CHANNELS[port - 1] == "iopub":
            bound_socket(s)
        s.bind(f"ipc://{self.ip}/{CHANNELS[port - 1]}")
        return port

    def init_control(self, context):
        super().init_control(context)
        if hasattr(self, "shell_channel_thread"):
            self.shell_channel_thread = _NoSubshells()

    def init_iopub(self, context):
        super().init_iopub(context)
        self._outflow = Outflow(self.iopub_thread)

    def init_heartbeat(self):
        # A context of its own, as stock has it: it must beat while the main one waits for the GIL.
        self.heartbeat = _FileHeartbeat(zmq.Context(), ("ipc", self.ip, self.hb_port))
        self.heartbeat.start()

    def init_shell(self):
        super().init_shell()
        install_history(self.shell)
        bound_recording(self.shell)
        memory.install(self.shell)


def _config(directory):
    config = Config()
    config.Session.key = b""
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    # Programs ask `"IPKernelApp" in get_ipython().config` to learn that they run in a notebook.
    config.IPKernelApp.ip = directory
    return config


def serve(directory, state_socket, token):
    """Runs one interpreter until it is told to end; never returns normally to a caller's loop."""
    link = Link(state_socket, token)
    app = NbosKernelApp.instance(config=_config(directory))
    app.ip = directory
    app.initialize([])
    app.kernel.attach(link)
    app.start()


def main(argv=None):
    parser = argparse.ArgumentParser(prog="nbos_kernel.app", description=__doc__.splitlines()[0])
    parser.add_argument("--dir", required=True, help="directory of the ipc sockets")
    parser.add_argument("--state-socket", required=True, help="the agent's Unix socket")
    args = parser.parse_args(argv)
    if sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]  # the folder we were started from is not the user's
    serve(args.dir, args.state_socket, os.environ.pop("NBOS_TOKEN", ""))


if __name__ == "__main__":
    main()
