"""The private socket to the agent (docs/reference/interpreter-protocol.md).

One daemon thread reads frames. Everything that touches the state of the interpreter is handed to
the main loop, in order; only the end of the interpreter is decided in the thread, because the main
thread may be busy with a cell that never ends.

When the socket closes, the agent is gone. A warm interpreter exits. One that is a kernel's waits for
the agent to be started again, for as long as the others wait before they give up its cell, and
says hello with what it has; frames of the old connection that were not served by then are void.
"""

import os
import socket
import threading
import time

from . import frames

RETRY_S = 0.05


class Link:
    """Owned by the application. `start` begins to deliver frames; `send` may be called from any thread."""

    def __init__(self, path, token):
        self.token = token
        self.outlives_agent_s = 0.0  # how long to wait for an agent that is gone
        self._path = path
        self._sock = self._connect()
        self._send_lock = threading.Lock()
        self._serve_lock = threading.Lock()  # held while a frame is served
        self._connection = 0
        self._pid = os.getpid()

    def _connect(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        return sock

    def start(self, schedule, on_frame, at_once, hello, attached):
        """`schedule(function, *args)` runs a function on the main loop; `on_frame(type, header, body)`
        is served there. `at_once` maps the types that the link's own thread serves, because a cell
        may run, to functions of the header. `hello()` is the header of the greeting, and
        `attached(bool)` hears whether an agent listens.
        """
        self._schedule, self._on_frame = schedule, on_frame
        self._at_once, self._hello, self._attached = at_once, hello, attached
        thread = threading.Thread(target=self._read, name="nbos-link", daemon=True)
        # A debugger must not stop the thread that keeps the interpreter attached to its agent.
        thread.pydev_do_not_trace = True
        thread.is_pydev_daemon_thread = True
        thread.start()

    def send(self, kind, header, body=b""):
        """Lost when no agent is there: what must not be lost is repeated on resume (kept.py)."""
        if os.getpid() != self._pid:
            return  # a process forked by user code does not speak for this interpreter
        with self._send_lock:
            try:
                frames.send(self._sock, kind, header, body)
            except OSError:
                pass  # the reader sees the end, too

    def _read(self):
        while True:
            try:
                while self._serve(frames.receive(self._sock)):
                    pass
            except OSError:
                pass  # the agent is gone; another one comes, or the grace ends
            except (ValueError, frames.FrameError) as error:
                os.write(2, f"nbos_kernel: the agent's socket failed: {error}\n".encode())
            if not self._wait_for_agent():
                # No clean-up hooks: user code registered them, and they belong to the one executor's
                # life, not to that of each standby. What had to be kept is with the agent already.
                os._exit(0)

    def _serve(self, frame):
        """False: the connection has ended."""
        if frame is None:
            return False
        if frame[0] == frames.SHUTDOWN:
            os._exit(0)
        if frame[0] in self._at_once:
            self._serve_at_once(*frame[:2])
        else:
            self._schedule(self._deliver, self._connection, frame)
        return True

    def _serve_at_once(self, kind, header):
        try:
            self._at_once[kind](header)
        except Exception as error:  # this thread must outlive it: without it nobody hears the agent
            os.write(2, f"nbos_kernel: frame {kind} of the agent failed: {error!r}\n".encode())

    def _deliver(self, connection, frame):
        with self._serve_lock:
            if connection == self._connection:
                self._on_frame(*frame)

    def _wait_for_agent(self):
        deadline = time.monotonic() + self.outlives_agent_s
        with self._serve_lock:
            self._connection += 1
        self._attached(False)  # no frame of the old connection is served any more
        while time.monotonic() < deadline:
            try:
                fresh = self._connect()
            except OSError:
                time.sleep(RETRY_S)
                continue
            with self._send_lock:
                self._sock.close()
                self._sock = fresh
            self._attached(True)
            self.send(frames.HELLO, self._hello())
            return True
        return False
