"""The private socket to the agent (docs/reference/interpreter-protocol.md).

One daemon thread reads frames. Everything that touches the state of the interpreter is handed to
the main loop, in order; only the end of the interpreter is decided in the thread, because the main
thread may be busy with a cell that never ends.

When the socket closes, the agent is gone, and the interpreter exits.
"""

import os
import socket
import threading

from . import frames


class Link:
    """Owned by the application. `start` begins to deliver frames; `send` may be called from any thread."""

    def __init__(self, path, token):
        self.token = token
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.connect(path)
        self._send_lock = threading.Lock()
        self._pid = os.getpid()

    def start(self, schedule, on_frame):
        """`schedule(function, *args)` runs a function on the main loop; `on_frame(type, header, body)`."""
        thread = threading.Thread(
            target=self._read, args=(schedule, on_frame), name="nbos-link", daemon=True
        )
        # A debugger must not stop the thread that keeps the interpreter attached to its agent.
        thread.pydev_do_not_trace = True
        thread.is_pydev_daemon_thread = True
        thread.start()

    def send(self, kind, header, body=b""):
        if os.getpid() != self._pid:
            return  # a process forked by user code does not speak for this interpreter
        with self._send_lock:
            frames.send(self._sock, kind, header, body)

    def _read(self, schedule, on_frame):
        try:
            while True:
                frame = frames.receive(self._sock)
                if frame is None or frame[0] == frames.SHUTDOWN:
                    break
                schedule(on_frame, *frame)
        except (OSError, ValueError, frames.FrameError) as error:
            os.write(2, f"nbos_kernel: the agent's socket failed: {error}\n".encode())
        # No clean-up hooks: user code registered them, and they belong to the one executor's life,
        # not to that of each standby. What had to be kept is with the agent already.
        os._exit(0)
