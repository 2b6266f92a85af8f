"""A client that writes down all it receives, with times, and connects again as browsers do.

Threads  Its own receives; send(), run() and the waits are for the test's thread.
"""
import threading
import time
from dataclasses import dataclass, field

import websocket

from conversation import OUTPUT_TYPES, CellRun, Closed

RECONNECT_PAUSE_S = 0.1
BROKEN = (Closed, OSError, websocket.WebSocketException)


@dataclass
class Recorded(CellRun):
    """What has answered one request so far."""
    replies: list = field(default_factory=list)
    replied_at: float = None  # monotonic
    idle_at: float = None

    @property
    def ended(self):
        return self.reply is not None and self.idle_at is not None

    @property
    def lines(self):
        """What it printed on stdout, line by line."""
        return "".join(content["text"] for kind, content in self.outputs
                       if kind == "stream" and content["name"] == "stdout").splitlines()


class Recorder(threading.Thread):
    def __init__(self, cluster, kernel_id):
        super().__init__(daemon=True)
        self._cluster = cluster
        self._kernel_id = kernel_id
        self._changed = threading.Condition()
        self._heard = []  # (when, message)
        self._conversation = None
        self._session = None
        self._leaving = False
        self.connections = 0
        self.start()

    def close(self):
        with self._changed:
            self._leaving = True
            conversation = self._conversation
        if conversation is not None:
            conversation.drop()
        self.join(10)

    # ---- its thread ----

    def run(self):
        while not self._leaving:
            try:
                self._receive(self._connect())
            except BROKEN:
                with self._changed:
                    self._conversation = None
                time.sleep(RECONNECT_PAUSE_S)

    def _connect(self):
        conversation = self._cluster.connect(self._kernel_id, session=self._session, timeout=5)
        with self._changed:
            self._session = conversation.session
            self._conversation = conversation
            self.connections += 1
            self._changed.notify_all()
        return conversation

    def _receive(self, conversation):
        while not self._leaving:
            try:
                message = conversation.receive(1)
            except TimeoutError:
                continue
            with self._changed:
                self._heard.append((time.monotonic(), message))
                self._changed.notify_all()

    # ---- for the test ----

    def submit(self, code, timeout=60):
        """Sends a cell, waiting for a connection if there is none; returns its msg_id."""
        end = time.monotonic() + timeout
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._conversation, end - time.monotonic())
                conversation = self._conversation
            assert conversation is not None, f"no connection in {timeout} s"
            try:
                # A cell behind a lost one of another client is not that client's "run all".
                return conversation.submit(code, stop_on_error=False)
            except BROKEN:
                assert time.monotonic() < end, f"nothing could be sent in {timeout} s"
                time.sleep(RECONNECT_PAUSE_S)

    def answer(self, msg_id):
        """What has come so far for a request."""
        run = Recorded(msg_id)
        with self._changed:
            heard = list(self._heard)
        for when, message in heard:
            if message["parent_header"].get("msg_id") == msg_id:
                take(run, when, message)
        return run

    def finish(self, msg_id, timeout=60):
        end = time.monotonic() + timeout
        while not (run := self.answer(msg_id)).ended:
            with self._changed:
                known = len(self._heard)
                self._changed.wait_for(lambda: len(self._heard) > known, 1)
            if time.monotonic() > end:
                raise TimeoutError(f"a cell did not end in {timeout} s; so far {run}")
        return run

    def execute(self, code, timeout=60):
        return self.finish(self.submit(code), timeout)


def take(run, when, message):
    kind, content = message["header"]["msg_type"], message["content"]
    run.sessions.add(message["header"]["session"])
    if kind == "status":
        run.statuses.append(content["execution_state"])
        if content["execution_state"] == "idle":
            run.idle_at = when
    elif kind == "execute_input":
        run.inputs.append(content)
    elif kind == "execute_reply":
        run.replies.append(message)
        run.reply = run.reply or message
        run.replied_at = run.replied_at or when
    elif kind in OUTPUT_TYPES:
        run.outputs.append((kind, content))
