"""Thin Jupyter clients for measuring: raw sockets, no library between the clock and the kernel.

One WebSocket client serves stock jupyter_server and NotebookOS alike (v1 framing). It sets
TCP_NODELAY, and TCP_QUICKACK after every read: the stock server writes small frames without
TCP_NODELAY, and a client that delays its acknowledgements would add 40 ms to each cell, which
is not what a comparison should show. The ZeroMQ client does what jupyter_client does on the wire
(HMAC included) with less Python around it.
"""
import base64
import hashlib
import hmac
import json
import os
import socket
import struct
import time
import urllib.parse
import urllib.request

import zmq

V1 = "v1.kernel.websocket.jupyter.org"
LIMIT_S = 60.0


class Cells:
    """Common part: builds execute_requests and waits for reply and idle."""

    def __init__(self):
        self.session = os.urandom(8).hex()
        self.number = 0

    def execute_parts(self, code):
        self.number += 1
        msg_id = f"{self.session}-{self.number}"
        header = {"msg_id": msg_id, "msg_type": "execute_request", "session": self.session,
                  "username": "bench", "date": "2026-01-01T00:00:00.000000Z", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {},
                   "allow_stdin": False, "stop_on_error": True}
        return msg_id, [json.dumps(header).encode(), b"{}", b"{}", json.dumps(content).encode()]

    def run(self, code):
        """Executes `code`; (seconds to idle, seconds to reply, reply's content)."""
        msg_id, parts = self.execute_parts(code)
        wanted = msg_id.encode()
        began = time.perf_counter()
        self.send(parts)
        idle = reply = None
        while idle is None or reply is None:
            header, parent, content = self.receive()
            if wanted not in parent:
                continue
            now = time.perf_counter()
            if b'"execute_reply"' in header:
                reply = now - began
                answer = json.loads(content)
            elif b'"status"' in header and b'"idle"' in content:
                idle = now - began
        if answer["status"] != "ok":
            raise RuntimeError(f"the cell {code!r} ended with {answer}")
        return idle, reply, answer

    def first_reply(self, code):
        """Executes `code` on a kernel that may still be starting; returns with the reply."""
        msg_id, parts = self.execute_parts(code)
        wanted = msg_id.encode()
        self.send(parts)
        while True:
            header, parent, content = self.receive()
            if wanted in parent and b'"execute_reply"' in header:
                break
        if json.loads(content)["status"] != "ok":
            raise RuntimeError(f"the cell {code!r} ended with {content!r}")


class WsCells(Cells):
    """A kernel behind a WebSocket: jupyter_server's, or NotebookOS's."""

    def __init__(self, url, token, kernel_id):
        super().__init__()
        where = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((where.hostname, where.port), LIMIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((
            f"GET {where.path.rstrip('/')}/api/kernels/{kernel_id}/channels?"
            f"session_id={self.session} HTTP/1.1\r\nHost: {where.netloc}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {V1}\r\n"
            f"Authorization: token {token}\r\n\r\n").encode())
        self.buffer = bytearray()
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(f"no WebSocket: {head.decode()}")
        self.buffer = bytearray(rest)

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise RuntimeError("the server closed the connection")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self.buffer += data

    def _take(self, count):
        while len(self.buffer) < count:
            self._more()
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def _send_frame(self, opcode, payload):
        mask = os.urandom(4)
        length = len(payload)
        head = bytes([0x80 | opcode])
        head += (bytes([0x80 | length]) if length < 126 else
                 struct.pack(">BH", 0xFE, length) if length < 65536 else
                 struct.pack(">BQ", 0xFF, length))
        key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        masked = (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")
        self.socket.sendall(head + mask + masked)

    def send(self, parts):
        parts = [b"shell", *parts]
        offsets = [8 * (len(parts) + 2)]
        for part in parts:
            offsets.append(offsets[-1] + len(part))
        self._send_frame(2, struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets)
                         + b"".join(parts))

    def receive(self):
        while True:
            first, length = self._take(2)
            if length == 126:
                (length,) = struct.unpack(">H", self._take(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self._take(8))
            payload = self._take(length)
            opcode = first & 15
            if opcode == 9:
                self._send_frame(10, payload)
            elif opcode == 8:
                raise RuntimeError(f"the server closed the WebSocket: {payload!r}")
            elif opcode == 2:
                (count,) = struct.unpack_from("<Q", payload)
                at = struct.unpack_from(f"<{count}Q", payload, 8)
                return payload[at[1]:at[2]], payload[at[2]:at[3]], payload[at[4]:at[5]]

    def close(self):
        self.socket.close()


class ZmqCells(Cells):
    """A stock ipykernel over its own sockets. `connection`: what its connection file says."""

    def __init__(self, connection):
        super().__init__()
        self.key = connection["key"].encode()
        self.context = zmq.Context()
        self.shell = self.context.socket(zmq.DEALER)
        self.iopub = self.context.socket(zmq.SUB)
        self.iopub.subscribe(b"")
        for sock, port in ((self.shell, "shell_port"), (self.iopub, "iopub_port")):
            sock.linger = 0
            sock.connect(f"tcp://{connection['ip']}:{connection[port]}")
        self.poller = zmq.Poller()
        self.poller.register(self.shell, zmq.POLLIN)
        self.poller.register(self.iopub, zmq.POLLIN)
        self.waiting = []

    def send(self, parts):
        digest = hmac.new(self.key, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(part)
        self.shell.send_multipart([b"<IDS|MSG>", digest.hexdigest().encode(), *parts])

    def receive(self):
        if not self.waiting:
            self.waiting = [sock for sock, _ in self.poller.poll(LIMIT_S * 1000)]
            if not self.waiting:
                raise TimeoutError(f"the kernel said nothing for {LIMIT_S} s")
        frames = self.waiting.pop().recv_multipart()
        at = frames.index(b"<IDS|MSG>")
        signature, header, parent, metadata, content = frames[at + 1:at + 6]
        digest = hmac.new(self.key, digestmod=hashlib.sha256)
        for part in (header, parent, metadata, content):
            digest.update(part)
        if not hmac.compare_digest(digest.hexdigest().encode(), signature):
            raise RuntimeError("a message with a wrong signature")
        return header, parent, content

    def close(self):
        self.context.destroy(linger=0)


def rest(url, token, method, path, body=None):
    request = urllib.request.Request(
        url.rstrip("/") + path, None if body is None else json.dumps(body).encode(),
        {"Authorization": f"token {token}", "Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
        raw = response.read()
    return json.loads(raw) if raw else None
