"""Plays the agent: starts a zygote, forks interpreters, and speaks both of their paths.

Only for tests. One thread, blocking, with generous limits; see docs/reference/interpreter-protocol.md.
"""

import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import zmq
from jupyter_client.session import Session

from nbos_kernel import frames

LIMIT_S = 120.0
PACKAGE_ROOT = Path(__file__).resolve().parent.parent


class Interpreter:
    """One interpreter as the agent sees it."""

    def __init__(self, agent, token, directory, process_id, link, hello):
        self.agent, self.token, self.directory, self.pid = agent, token, directory, process_id
        self.link, self.hello = link, hello
        self.sequence = 0
        self.cell = 0
        self.session = Session(key=b"")
        identity = uuid.uuid4().bytes
        self.shell = self._connect(zmq.DEALER, "shell", identity)
        self.stdin = self._connect(zmq.DEALER, "stdin", identity)
        self.control = self._connect(zmq.DEALER, "control", uuid.uuid4().bytes)
        self.iopub = self._connect(zmq.SUB, "iopub")
        self.iopub.subscribe(b"")

    def _connect(self, kind, name, identity=None):
        sock = self.agent.context.socket(kind)
        sock.linger = 0
        if identity is not None:
            sock.identity = identity
        sock.connect(f"ipc://{self.directory}/{name}")
        return sock

    # ---- private socket --------------------------------------------------------------------------

    def ask(self, kind, header, body=b"", answer=frames.APPLIED):
        frames.send(self.link, kind, header, body)
        return self.expect(answer)

    def expect(self, kind):
        frame = frames.receive(self.link)
        assert frame is not None, "the interpreter closed its socket"
        assert frame[0] == kind, f"expected frame {kind}, got {frame[:2]}"
        return frame

    def adopt(self, **fields):
        header = {"kernel": "k1", "session": "s1", "cwd": None, "env": None, "username": "u", "replica": 1}
        _, answer, _ = self.ask(frames.ADOPT, {**header, **fields}, answer=frames.ADOPTED)
        assert answer["ok"], answer["error"]
        # IOPub is lossy until the subscription has arrived: ask for something until it answers.
        while not self.iopub.poll(20):
            self.request("kernel_info_request", {}, sock=self.control)
        self.drain_iopub()
        return self

    def apply(self, delta, sequence=None, base=None):
        base = self.sequence if base is None else base
        sequence = base + 1 if sequence is None else sequence
        _, answer, _ = self.ask(frames.APPLY, {"sequence": sequence, "base": base}, delta)
        if answer["ok"]:
            self.sequence = sequence
        return answer

    def load(self, delta, sequence):
        _, answer, _ = self.ask(frames.LOAD, {"sequence": sequence, "digest": 0}, delta)
        if answer["ok"]:
            self.sequence = sequence
        return answer

    # ---- Jupyter ---------------------------------------------------------------------------------

    def send(self, msg_type, content, sock=None):
        message = self.session.msg(msg_type, content)
        self.session.send(sock or self.shell, message)
        return message["header"]["msg_id"]

    def receive(self, sock, limit_s=LIMIT_S):
        assert sock.poll(limit_s * 1000), "no message in time"
        _, parts = self.session.feed_identities(sock.recv_multipart())
        return self.session.deserialize(parts)

    def request(self, msg_type, content, sock=None):
        msg_id = self.send(msg_type, content, sock)
        while True:
            reply = self.receive(sock or self.shell)
            if reply["parent_header"].get("msg_id") == msg_id:
                return reply

    def drain_iopub(self):
        out = []
        while self.iopub.poll(50):
            out.append(self.receive(self.iopub))
        return out

    def start_cell(self, code, run_first=True, base=None, **content):
        self.cell += 1
        request = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
            **content,
        }
        message = self.session.msg("execute_request", request)
        msg_id = message["header"]["msg_id"]
        header = {
            "cell": self.cell,
            "epoch": 1,
            "msg_id": msg_id,
            "base": self.sequence if base is None else base,
        }
        if run_first:
            frames.send(self.link, frames.RUN, header)
            self.session.send(self.shell, message)
        else:
            self.session.send(self.shell, message)
            frames.send(self.link, frames.RUN, header)
        return msg_id

    def finish_cell(self, msg_id):
        _, header, delta = self.expect(frames.DELTA)
        assert header["msg_id"] == msg_id
        reply = self.receive(self.shell)
        assert reply["parent_header"]["msg_id"] == msg_id
        outputs = []
        while True:
            message = self.receive(self.iopub)
            if message["parent_header"].get("msg_id") != msg_id:
                continue
            if message["msg_type"] == "status":
                if message["content"]["execution_state"] == "idle":
                    break
                continue
            outputs.append(message)
        if header["error"] is None:
            self.sequence += 1
        return Cell(header, delta, reply, outputs)

    def run(self, code, **options):
        return self.finish_cell(self.start_cell(code, **options))

    def evaluate(self, expression):
        """The text of one expression, through a silent cell without history."""
        cell = self.run("", silent=True, store_history=False, user_expressions={"e": expression})
        result = cell.reply["content"]["user_expressions"]["e"]
        assert result["status"] == "ok", "\n".join(result.get("traceback", [str(result)]))
        return result["data"]["text/plain"]

    def close(self):
        self.link.close()


class Cell:
    def __init__(self, header, delta, reply, outputs):
        self.header, self.delta, self.reply, self.outputs = header, delta, reply, outputs

    @property
    def unsupported(self):
        return self.header["unsupported"]

    def text(self, name="stdout"):
        return "".join(
            m["content"]["text"]
            for m in self.outputs
            if m["msg_type"] == "stream" and m["content"]["name"] == name
        )

    def result(self):
        for m in self.outputs:
            if m["msg_type"] == "execute_result":
                return m["content"]["data"]["text/plain"]
        return None


class Agent:
    def __init__(self, preload="", arguments=(), **environment):
        self.root = Path(tempfile.mkdtemp(prefix="nbk"))
        self.context = zmq.Context()
        self._state = self._listen("state.sock")
        listener = self._listen("zygote.sock")
        env = dict(os.environ, PYTHONPATH=str(PACKAGE_ROOT), **environment)
        command = [sys.executable, "-m", "nbos_kernel.zygote", "--socket", str(self.root / "zygote.sock")]
        self.process = subprocess.Popen([*command, "--preload", preload, *arguments], env=env, cwd=self.root)
        self.zygote, _ = self._accept(listener)
        listener.close()
        self._reports = b""
        self._count = 0

    def _listen(self, name):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(self.root / name))
        sock.listen(8)
        return sock

    def _accept(self, listener):
        assert select.select([listener], [], [], LIMIT_S)[0], "nobody connected in time"
        sock, peer = listener.accept()
        sock.settimeout(LIMIT_S)
        return sock, peer

    def fork(self):
        """A warm interpreter, not adopted yet."""
        self._count += 1
        token = f"t{self._count}"
        directory = self.root / token
        directory.mkdir(mode=0o700)
        request = {
            "op": "fork",
            "token": token,
            "dir": str(directory),
            "state_socket": str(self.root / "state.sock"),
        }
        self.zygote.sendall(json.dumps(request).encode() + b"\n")
        pid = self.report()["pid"]
        link, _ = self._accept(self._state)
        kind, hello, _ = frames.receive(link)
        assert kind == frames.HELLO and hello["token"] == token and hello["pid"] == pid, hello
        return Interpreter(self, token, directory, pid, link, hello)

    def start(self, **fields):
        return self.fork().adopt(**fields)

    def report(self):
        while b"\n" not in self._reports:
            data = self.zygote.recv(65536)
            assert data, "the zygote closed its socket"
            self._reports += data
        line, _, self._reports = self._reports.partition(b"\n")
        return json.loads(line)

    def close(self):
        self.zygote.close()
        self._state.close()
        self.process.wait(LIMIT_S)
        self.context.destroy(0)
        shutil.rmtree(self.root, ignore_errors=True)


class Table:
    """The replicated table as agents keep it: merges deltas, gives a snapshot."""

    def __init__(self):
        self.entries = {}

    def merge(self, delta):
        from nbos_kernel.engine import table_format

        for key, value in table_format.read_delta(delta):
            if value is None:
                del self.entries[key]  # a KeyError is a broken delta
            else:
                self.entries[key] = bytes(value)

    def as_delta(self):
        out = [struct.pack("<BI", 1, len(self.entries))]
        for key, value in sorted(self.entries.items()):
            name = key.encode()
            out.append(struct.pack("<BI", 1, len(name)) + name + struct.pack("<I", len(value)) + value)
        return b"".join(out)
