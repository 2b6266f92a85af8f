"""What a cell says, at the speed at which the agent takes it.

Stock ipykernel gathers all that is printed in 0.2 s and sends it as one message of any size; what is
sent faster than somebody reads is queued, and then dropped. Here a message of a stream has at most
PIECE_CHARS, and code that prints or displays waits while too much has not left the process: memory is
bounded, and nothing is dropped.

Threads  Any thread writes and publishes, and may wait; ipykernel's IOPub thread sends, and must not.
"""

import os
import sys
import threading
from contextlib import contextmanager

import zmq
from ipykernel.iostream import OutStream

PIECE_CHARS = 256 << 10  # of one stream message
UNSENT_CHARS_MAX = 1 << 20  # of one stream; then its writer waits until they are messages
UNSENT_BYTES_MAX = 8 << 20  # of messages that the IOPub thread has not sent
UNSENT_MESSAGES_MAX = 1000
SOCKET_MESSAGES_MAX = 32  # in the socket, beside what the operating system holds
RECORDED_CHARS_MAX = 1 << 20  # of a cell and stream, in IPython's history
_LOOK_AGAIN_S = 1.0  # whether there still is a thread to wait for


class BoundedStream(OutStream):
    """stdout or stderr of user code."""

    _unsent = 0  # characters in the buffers

    def write(self, string):
        written = super().write(string)
        with self._buffer_lock:
            self._unsent += len(string)
            full = self._unsent >= UNSENT_CHARS_MAX
        if full and self._is_master_process():
            self._await_flush()
        return written

    def _await_flush(self):
        """As flush(), but however long it takes. KeyboardInterrupt may end it."""
        thread = self.pub_thread.thread
        if thread is threading.current_thread() or not thread.is_alive():
            self._flush()
            return
        flushed = threading.Event()
        self.pub_thread.schedule(self._flush)
        self.pub_thread.schedule(flushed.set)
        while not flushed.wait(_LOOK_AGAIN_S) and thread.is_alive():
            pass

    def _rotate_buffers(self):
        with self._buffer_lock:
            self._unsent = 0
            return super()._rotate_buffers()

    def _flush_buffers(self):
        for parent, text in super()._flush_buffers():
            for piece in pieces(text):
                yield parent, piece


def pieces(text):
    """The text in parts of at most PIECE_CHARS, cut behind a line where there is one."""
    begin = 0
    while len(text) - begin > PIECE_CHARS:
        end = text.rfind("\n", begin, begin + PIECE_CHARS) + 1 or begin + PIECE_CHARS
        yield text[begin:end]
        begin = end
    yield text[begin:]


class Outflow:
    """Stands before the IOPub thread: user code that publishes waits while too much has not left."""

    def __init__(self, pub_thread):
        self._thread, self._events = pub_thread.thread, pub_thread._events
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._messages = self._bytes = 0
        self._publish, pub_thread.send_multipart = pub_thread.send_multipart, self._enter
        self._send, pub_thread._really_send = pub_thread._really_send, self._leave

    def _enter(self, parts, *args, **kwargs):
        if os.getpid() == self._pid:  # a process forked by user code pipes to this one
            with self._changed:
                # ipykernel's own threads have this mark: they answer the agent whatever is printed.
                if not getattr(threading.current_thread(), "pydev_do_not_trace", False):
                    self._await_room()
                self._messages += 1
                self._bytes += _size(parts)
        self._publish(parts, *args, **kwargs)

    def _await_room(self):
        while self._is_full() and self._thread.is_alive():
            changed = self._changed.wait(_LOOK_AGAIN_S)
            if not changed and not self._events:
                # Counted and then not sent: an interrupt came in between.
                self._messages = self._bytes = 0

    def _leave(self, parts, *args, **kwargs):
        try:
            self._send(parts, *args, **kwargs)
        finally:
            if os.getpid() == self._pid:
                with self._changed:
                    self._messages = max(0, self._messages - 1)
                    self._bytes = max(0, self._bytes - _size(parts))
                    self._changed.notify_all()

    def _is_full(self):
        return self._bytes > UNSENT_BYTES_MAX or self._messages > UNSENT_MESSAGES_MAX


def _size(parts):
    return sum(memoryview(part).nbytes for part in parts)


def bound_socket(iopub):
    """Before it is bound. Where stock drops what a slow reader has no room for, this one waits."""
    iopub.sndhwm = SOCKET_MESSAGES_MAX
    iopub.setsockopt(zmq.XPUB_NODROP, 1)


def bound_recording(shell):
    """IPython 9 records all that a cell prints, for %notebook; here no more than the beginning."""
    record = getattr(shell, "_tee", None)
    if record is None:
        return

    @contextmanager
    def record_the_beginning(channel):
        stream = getattr(sys, channel)
        plain, room = stream.write, RECORDED_CHARS_MAX
        with record(channel):
            recording = stream.write

            def write(text, *args, **kwargs):
                nonlocal room
                room -= len(text) if isinstance(text, str) else 0
                return (recording if room >= 0 else plain)(text, *args, **kwargs)

            stream.write = write
            yield

    shell._tee = record_the_beginning
