"""What an interpreter keeps of its running cell, for an agent that is started again under it.

An agent that dies takes along the outputs, the delta and the reply that it had not yet brought into
the log. The interpreter outlives it, goes on with the cell, and repeats all of it to the next agent.
Bounded: of the outputs only the newest are kept, and a line says how many were lost meanwhile.

Threads  Written by the main thread and those that publish; read by the link's thread.
"""

import threading
from collections import deque

from jupyter_client.session import Session

OUTPUTS_MAX = 4000
OUTPUT_BYTES_MAX = 4 << 20
_CHANNEL_OF = {"execute_reply": "shell", "input_request": "stdin"}  # of a cell; else iopub


class Kept:
    def __init__(self):
        self._lock = threading.Lock()
        self._attached = True
        self._offered = None  # the header of a run frame whose cell has not begun
        self.losses = 0  # of an agent
        self.expects = {}  # cell and epoch of the claim that was proposed last for this interpreter
        self._clear(None)

    def _clear(self, run):
        self._run = run
        self._delta = None
        self._messages = deque()  # (channel, message, buffers, bytes)
        self._bytes = 0
        self._lost = 0

    @property
    def run(self):
        """The header of the run frame whose cell may still be needed, or None."""
        return self._run

    def offer(self, run):
        """A run frame has come. One cell at a time: an older one is obsolete."""
        with self._lock:
            self._offered = run

    def offered(self, msg_id):
        run = self._offered
        return run if run is not None and run["msg_id"] == msg_id else None

    def begin(self, run):
        """False when the agent that sent this run frame is gone: the next one is told that this cell
        has not begun, and lets it run elsewhere."""
        with self._lock:
            if run is not self._offered:
                return False
            self._offered = None
            self._clear(run)
            return True

    def forget(self, cell=None):
        """The end of `cell` (or whatever there is) is in the log."""
        with self._lock:
            if self._run is not None and cell in (None, self._run["cell"]):
                self._clear(None)

    def attached(self, attached):
        """Whether an agent listens: what is dropped while none does is lost, and its frames are void."""
        with self._lock:
            self._attached = attached
            if not attached:
                self._offered = None
                self.losses += 1

    def add_delta(self, header, delta):
        with self._lock:
            self._delta = (header, delta)

    def add(self, message, buffers):
        """A message that has just been sent."""
        run = self._run
        if run is None or message["parent_header"].get("msg_id") != run["msg_id"]:
            return
        size = _size(message["content"]) + sum(memoryview(b).nbytes for b in buffers)
        with self._lock:
            if run is not self._run:
                return
            channel = _CHANNEL_OF.get(message["header"]["msg_type"], "iopub")
            self._messages.append((channel, message, buffers, size))
            self._bytes += size
            while len(self._messages) > OUTPUTS_MAX or self._bytes > OUTPUT_BYTES_MAX:
                if len(self._messages) == 1:
                    break
                self._bytes -= self._messages.popleft()[3]
                self._lost += 0 if self._attached else 1

    def input_came(self):
        """The question on stdin has its answer: nobody is to be asked again."""
        with self._lock:
            self._messages = deque(m for m in self._messages if m[0] != "stdin")

    def repeat(self):
        """All of it: outputs lost, [(channel, message, buffers)], and (header, delta) or None."""
        with self._lock:
            lost, self._lost = self._lost, 0
            return lost, [m[:3] for m in self._messages], self._delta


class KeptSession(Session):
    """A Session that lets `kept` see what is sent."""

    kept = None

    def send(self, stream, msg_or_type, content=None, parent=None, ident=None, buffers=None, **options):
        message = super().send(stream, msg_or_type, content, parent, ident, buffers, **options)
        if self.kept is not None and message is not None:
            self.kept.add(message, buffers or message.get("buffers") or [])
        return message


def _size(value):
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_size, value))
    return 8
