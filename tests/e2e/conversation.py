"""Talking to a kernel as a Jupyter client does, whatever carries the messages.

A Conversation sends and receives message dicts (see wire.py); WsConversation does so over a
WebSocket in either framing, ZmqConversation over stock ipykernel's own sockets.
"""
import datetime
import json
import queue
import time
import urllib.parse
import uuid
from dataclasses import dataclass, field

import websocket

import wire

OUTPUT_TYPES = ("stream", "display_data", "execute_result", "error", "update_display_data",
                "clear_output")


class Closed(Exception):
    """The server closed the WebSocket; carries the close code (None: without one)."""

    def __init__(self, code, reason=""):
        super().__init__(f"closed with {code} {reason}")
        self.code = code
        self.reason = reason


@dataclass
class CellRun:
    """Everything that answered one execute_request, until reply and idle were both there."""
    msg_id: str
    reply: dict = None                                  # the whole execute_reply message
    outputs: list = field(default_factory=list)         # (msg_type, content)
    statuses: list = field(default_factory=list)        # execution_state, in order
    inputs: list = field(default_factory=list)          # contents of execute_input
    sessions: set = field(default_factory=set)          # header.session of everything
    seconds: float = 0.0

    @property
    def status(self):
        return self.reply["content"]["status"]

    @property
    def count(self):
        return self.reply["content"].get("execution_count")

    @property
    def text(self):
        """What a reader sees: streams and text/plain, joined."""
        return "".join(content.get("text") or content.get("data", {}).get("text/plain", "")
                       for _, content in self.outputs)

    @property
    def error(self):
        content = self.reply["content"]
        return (content.get("ename"), content.get("evalue")) if content["status"] == "error" else None


class Conversation:
    """Base: needs send_message(message) and receive(timeout), which raises TimeoutError."""

    def __init__(self):
        self.session = uuid.uuid4().hex
        self.seen = []      # every message received, for tests that look at the whole conversation

    def send(self, msg_type, content=None, channel="shell", parent=None, metadata=None, buffers=()):
        msg_id = uuid.uuid4().hex
        now = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
        header = {"msg_id": msg_id, "msg_type": msg_type, "session": self.session,
                  "username": "tester", "date": now, "version": "5.3"}
        self.send_message({"channel": channel, "header": header, "parent_header": parent or {},
                           "metadata": metadata or {}, "content": content or {},
                           "buffers": list(buffers)})
        return msg_id

    def submit(self, code, allow_stdin=True, **extra):
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {},
                   "allow_stdin": allow_stdin, "stop_on_error": True, **extra}
        return self.send("execute_request", content)

    def execute(self, code, answers=(), timeout=60, during=None, **extra):
        """Runs one cell to its end. `during(run)` is called once, when the cell has printed."""
        return self.finish(self.submit(code, **extra), answers, timeout, during)

    def finish(self, msg_id, answers=(), timeout=60, during=None):
        """Takes what answers an execute_request that was sent before, until reply and idle."""
        run = CellRun(msg_id)
        answers = list(answers)
        began = time.monotonic()
        while run.reply is None or not run.statuses or run.statuses[-1] != "idle":
            left = began + timeout - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"cell {msg_id} did not end in {timeout} s; so far {run}")
            message = self.receive(left)
            if message["parent_header"].get("msg_id") != msg_id:
                continue
            run.sessions.add(message["header"]["session"])
            self._take(run, message, answers)
            if during and message["header"]["msg_type"] == "stream":
                during(run)
                during = None
        run.seconds = time.monotonic() - began
        return run

    def _take(self, run, message, answers):
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "status":
            run.statuses.append(content["execution_state"])
        elif kind == "execute_input":
            run.inputs.append(content)
        elif kind == "execute_reply":
            run.reply = message
        elif kind == "input_request":
            answer = answers.pop(0) if answers else ""
            self.send("input_reply", {"value": answer, "status": "ok"}, "stdin", message["header"])
        elif kind in OUTPUT_TYPES:
            run.outputs.append((kind, content))

    def ask(self, msg_type, content=None, channel="shell", timeout=30, **extra):
        """Sends a request and returns its reply message."""
        msg_id = self.send(msg_type, content, channel, **extra)
        return self.wait_for(lambda m: m["parent_header"].get("msg_id") == msg_id
                             and m["header"]["msg_type"].endswith("_reply"), timeout)

    def wait_for(self, matches, timeout=30):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            message = self.receive(max(0.01, end - time.monotonic()))
            if matches(message):
                return message
        raise TimeoutError(f"nothing matched in {timeout} s")

    def drain(self, seconds):
        """Everything that arrives within so many seconds."""
        got, end = [], time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                got.append(self.receive(left))
            except TimeoutError:
                break
        return got


class WsConversation(Conversation):
    def __init__(self, url, kernel_id, token=None, framing="v1", session=None, header_token=True,
                 timeout=30):
        super().__init__()
        self.session = session or self.session
        self.framing = framing
        query = {"session_id": self.session}
        headers = []
        if token is not None and header_token:
            headers.append(f"Authorization: token {token}")
        elif token is not None:
            query["token"] = token
        address = (url.replace("http", "ws", 1).rstrip("/") + f"/api/kernels/{kernel_id}/channels?"
                   + urllib.parse.urlencode(query))
        self.socket = websocket.create_connection(
            address, timeout=timeout, header=headers,
            subprotocols=[wire.V1] if framing == "v1" else None)

    @property
    def subprotocol(self):
        return self.socket.getsubprotocol()

    def send_message(self, message):
        if self.framing == "v1":
            self.socket.send_binary(wire.encode_v1(message))
            return
        frame = wire.encode_legacy(message)
        (self.socket.send if isinstance(frame, str) else self.socket.send_binary)(frame)

    def send_raw(self, payload):
        (self.socket.send if isinstance(payload, str) else self.socket.send_binary)(payload)

    def receive(self, timeout=30):
        end = time.monotonic() + timeout
        try:
            opcode = websocket.ABNF.OPCODE_PING
            # Pings are answered in there, and must not begin the wait anew.
            while opcode in (websocket.ABNF.OPCODE_PING, websocket.ABNF.OPCODE_PONG):
                self.socket.settimeout(max(0.01, end - time.monotonic()))
                opcode, data = self.socket.recv_data(control_frame=True)
        except websocket.WebSocketTimeoutException as error:
            raise TimeoutError("no message") from error
        except (websocket.WebSocketConnectionClosedException, ConnectionError) as error:
            raise Closed(None, str(error)) from error
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            code = int.from_bytes(data[:2], "big") if len(data) >= 2 else None
            raise Closed(code, data[2:].decode("utf-8", "replace"))
        if self.framing == "v1":
            message = wire.decode_v1(data)
        else:
            message = wire.decode_legacy(data.decode() if opcode == websocket.ABNF.OPCODE_TEXT
                                         else data)
        self.seen.append(message)
        return message

    def drop(self):
        """Ends the TCP connection without a close frame, as a lost network does."""
        self.socket.sock.close()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class ZmqConversation(Conversation):
    """Over a jupyter_client BlockingKernelClient whose channels run."""

    def __init__(self, client):
        super().__init__()
        self.client = client
        self.session = client.session.session

    def send_message(self, message):
        channel = getattr(self.client, message["channel"] + "_channel")
        plain = {name: message[name] for name in ("header", "parent_header", "metadata", "content")}
        plain.update(msg_id=message["header"]["msg_id"], msg_type=message["header"]["msg_type"])
        channel.send(plain)

    def receive(self, timeout=30):
        end = time.monotonic() + timeout
        while True:
            for name in ("iopub", "stdin", "shell", "control"):
                try:
                    message = getattr(self.client, name + "_channel").get_msg(timeout=0)
                except queue.Empty:
                    continue
                message["channel"] = name
                message = json.loads(json.dumps(message, default=str))
                self.seen.append(message)
                return message
            if time.monotonic() > end:
                raise TimeoutError("no message")
            time.sleep(0.002)
