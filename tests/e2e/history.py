"""Clients that write down what they asked for and were told, for the C++ history checker.

The records are those of tests/cluster/history.h: one JSON object a line, in the order in which
things happened. The cells keep lists and counters, print which process runs them, and put a line
into a ledger (a file outside the notebook's state) when their code begins.

Threads  One a client. `History` may be used by all of them.
"""
import json
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import websocket

from cluster import ROOT
from conversation import Closed

CHECKER = os.environ.get("NBOS_HISTORY_CHECK", str(ROOT / "build/release/tests/history_check"))
BROKEN = (Closed, OSError, websocket.WebSocketException)
REGROUP_S = 4.0          # what is replayed to a session that comes back has come by then
RECONNECT_PAUSE_S = 0.3
OUTSTANDING_MAX = 4      # "run all"

SETUP = """
import os, socket, time
class UserError(Exception):
    pass
values = {{}}
def me():
    return f'{{socket.gethostname()}}.{{os.getpid()}}'
def begin(asker, msg, seconds):
    ledger = os.open({ledger!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(ledger, f'{{asker}} {{msg}} {{me()}}\\n'.encode())
    os.close(ledger)
    print('by ' + me(), flush=True)
    time.sleep(seconds)
def end(seconds, *names):
    time.sleep(seconds)
    print('by ' + me(), flush=True)
    def text(value):
        return ','.join(value) if isinstance(value, list) else str(value)
    shown = [f'{{name}}={{text(values[name])}}' for name in names or sorted(values)
             if name in values]
    print(' '.join(['holds' if names else 'holds-all', *shown]), flush=True)
"""
BODIES = {
    "append": "values.setdefault({name!r}, []).append({tag!r})\nend({later}, {name!r})\n",
    "add": "values[{name!r}] = values.get({name!r}, 0) + 1\nend({later}, {name!r})\n",
    "read": "end({later})\n",
    "fail": "values.setdefault({name!r}, []).append({tag!r})\nend({later}, {name!r})\n"
            "raise UserError({tag!r})\n",
}


class History:
    def __init__(self):
        self._lock = threading.Lock()
        self._records = []
        self._began = time.monotonic()

    def add(self, kind, **fields):
        with self._lock:
            self._records.append({"at_ms": int((time.monotonic() - self._began) * 1e3),
                                  "kind": kind, **{k: v for k, v in fields.items() if v}})

    def add_ledger(self, path):
        """Who began what: the order of these records says nothing."""
        for line in Path(path).read_text().splitlines():
            asker, msg, who = line.split()
            self.add("began", asker=asker, msg=msg, who=who)

    def write(self, path):
        with self._lock:
            Path(path).write_text("".join(json.dumps(record) + "\n" for record in self._records))


def verdict(path, answer_ms_max=60_000):
    """(0 all is well, 1 rules are broken, 2 no verdict; what the checker printed)."""
    done = subprocess.run([CHECKER, "--answer-ms-max", str(answer_ms_max), str(path)],
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


class HistoryClient(threading.Thread):
    """Asks at random times, loses its connection, comes back, and asks again for what has no reply."""

    def __init__(self, cluster, kernel_id, number, seed, history, think_s=1.0):
        super().__init__(daemon=True, name=f"client-{number}")
        self._cluster, self._kernel, self._history = cluster, kernel_id, history
        self._random = random.Random(f"{seed}/{number}")
        self._session = f"session-{number}"
        self._think_s = think_s
        self._framing = self._random.choice(["v1", "legacy"])
        self._orders = []     # operations that the test wants
        self._pending = {}    # msg_id -> (record, message), in order
        self._asked = 0
        self._lock = threading.Lock()
        self._working, self._over = True, False
        self._error = None
        self.start()

    # ---- for the test ----

    def order(self, *operations):
        with self._lock:
            self._orders += operations

    def stop_asking(self):
        self._working = False

    def idle(self):
        """All it was asked to do is done, and answered."""
        if self._error is not None:
            raise self._error
        with self._lock:
            return not self._orders and not self._pending

    def waits_for(self):
        with self._lock:
            return [record["msg"] for record, _ in self._pending.values()]

    def close(self):
        self._over = True
        self.join(30)

    # ---- its thread ----

    def run(self):
        while not self._over and self._error is None:
            try:
                self._converse()
            except BROKEN:
                time.sleep(RECONNECT_PAUSE_S)
            except Exception as error:  # noqa: BLE001: told by idle()
                self._error = error

    def _converse(self):
        with self._cluster.connect(self._kernel, session=self._session, framing=self._framing,
                                   timeout=5) as conversation:
            self._history.add("connected", kernel=self._kernel, client=self._session)
            if self._pending:
                self._listen(conversation, REGROUP_S)
                for record, message in list(self._pending.values()):
                    self._ask(conversation, record, message)
            while not self._over:
                self._listen(conversation, self._random.uniform(0.01, 2 * self._think_s))
                for _ in range(self._random.choice([1, 1, OUTSTANDING_MAX])):
                    self._ask_something(conversation)

    def _listen(self, conversation, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._over:
            try:
                self._hear(conversation, conversation.receive(min(left, 0.2)))
            except TimeoutError:
                continue

    def _ask_something(self, conversation):
        with self._lock:
            if len(self._pending) >= OUTSTANDING_MAX:
                return
            if self._orders:
                operation = self._orders.pop(0)
            elif self._working:
                operation = self._draw()
            else:
                return
            record, message = self._request(operation)
            self._pending[record["msg"]] = (record, message)
        self._ask(conversation, record, message)

    def _draw(self):
        drawn = self._random.random()
        if drawn < 0.05:
            return "fail"
        if drawn < 0.1:
            return "ask"
        return self._random.choice(["append", "append", "add", "read"])

    def _request(self, operation):
        self._asked += 1
        record = {"kernel": self._kernel, "client": self._session, "op": operation,
                  "msg": f"{self._session}-m{self._asked}", "tag": f"{self._session}.{self._asked}"}
        if operation == "add":
            record["name"] = "count"
        elif operation in ("append", "fail"):
            record["name"] = self._random.choice(["shared", "shared", f"own-{self._session}"])
        if operation == "ask":
            kind, content = "complete_request", {"code": "valu", "cursor_pos": 4}
        else:
            kind, content = "execute_request", {
                "code": self._code(record), "silent": False, "store_history": True,
                "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
        header = {"msg_id": record["msg"], "msg_type": kind, "session": self._session,
                  "username": "u", "date": "2026-01-01T00:00:00.000000Z", "version": "5.3"}
        return record, {"channel": "shell", "header": header, "parent_header": {}, "metadata": {},
                        "content": content, "buffers": []}

    def _code(self, record):
        longest = self._random.choice([0.1, 0.1, 1.0, 6.0])
        body = BODIES[record["op"]].format(name=record.get("name"), tag=record["tag"],
                                           later=round(self._random.uniform(0, longest), 3))
        seconds = round(self._random.uniform(0, longest), 3)
        return f"begin({self._session!r}, {record['msg']!r}, {seconds})\n{body}"

    def _ask(self, conversation, record, message):
        self._history.add("asked", **record)
        conversation.send_message(message)

    def _hear(self, conversation, message):
        header, parent, content = message["header"], message["parent_header"], message["content"]
        if not parent.get("msg_id"):
            return
        kind, asker = header["msg_type"], parent["session"]
        self._history.add(
            "heard", kernel=self._kernel, client=self._session, msg=parent["msg_id"], asker=asker,
            speaker=header["session"], type=kind, ename=content.get("ename"),
            state=content.get("execution_state" if kind == "status" else "status"),
            text=content.get("evalue" if kind == "error" else "text"), count=content.get("execution_count"))
        if asker == self._session and kind.endswith("_reply"):
            with self._lock:
                self._pending.pop(parent["msg_id"], None)
