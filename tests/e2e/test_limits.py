"""Floods, clients that do not read, and very many connections: bounded, said, and no harm to others.

What was measured is printed (pytest -rP shows it).
"""
import contextlib
import socket
import time
from pathlib import Path

import pytest

import websocket

from cluster import poll
from conversation import Closed

MIB = 1 << 20
MANY = 20_000   # of displays; 100,000 take minutes


def peak_mib(pid):
    """The most that a process has had in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) >> 10
    raise AssertionError("no VmHWM")


@pytest.fixture
def other(cluster):
    """Another kernel, that must answer all the while."""
    kernel_id = cluster.start_kernel()
    cluster.wait_replicas(kernel_id)
    with cluster.connect(kernel_id) as conversation:
        conversation.execute("n = 1")
        yield conversation
    cluster.forget(kernel_id)


def elided_line(run):
    lines = [content["data"]["text/plain"] for kind, content in run.outputs
             if kind in ("display_data", "update_display_data") and "[NotebookOS]" in str(content)]
    return lines


def test_a_cell_that_prints_a_gigabyte(cluster, kernel, other):
    host = cluster.executor_host(kernel)
    pids = {"gateway": cluster.gateway_pid(), "agent": cluster.agent_pid(host)}
    before = {name: peak_mib(pid) for name, pid in pids.items()}
    with cluster.connect(kernel) as conversation:
        cell = conversation.submit("line = 'x' * 1023 + '\\n'\n"
                                   "for _ in range(1024):\n    print(line * 1024, end='')")
        began = time.monotonic()
        worst = 0.0
        for _ in range(5):
            asked = time.monotonic()
            assert other.execute("n + 1", timeout=120).text == "2"
            worst = max(worst, time.monotonic() - asked)
        run = conversation.finish(cell, timeout=400)
        assert run.status == "ok" and run.statuses == ["busy", "idle"]
        shown = sum(len(content.get("text", "")) for kind, content in run.outputs if kind == "stream")
        lines = elided_line(run)
        after = {name: peak_mib(pid) for name, pid in pids.items()}
        print(f"1 GiB printed in {time.monotonic() - began:.1f} s, {shown / MIB:.0f} MiB shown, "
              f"another cell took at most {worst:.2f} s; peak MiB before {before}, after {after}; "
              f"{lines}")
        assert "[NotebookOS]" in run.text and "left out" in run.text
        assert after["gateway"] - before["gateway"] < 800, (before, after)
        assert conversation.execute("'usable'", timeout=60).text == "'usable'"


def test_very_many_small_outputs(cluster, kernel, other):
    with cluster.connect(kernel) as conversation:
        cell = conversation.submit("from IPython.display import display\n"
                                   f"for n in range({MANY}): display(n)")
        assert other.execute("n + 1", timeout=120).text == "2"
        run = conversation.finish(cell, timeout=400)
        assert run.status == "ok"
        numbers = [content["data"]["text/plain"] for kind, content in run.outputs
                   if kind == "display_data"]
        print(f"{MANY} displays in {run.seconds:.1f} s")
        assert numbers == [str(n) for n in range(MANY)]
        assert conversation.execute("'usable'", timeout=60).text == "'usable'"


def test_a_client_that_never_reads_is_closed_and_others_are_unharmed(cluster, kernel):
    lazy = cluster.connect(kernel)
    lazy.socket.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    before = peak_mib(cluster.gateway_pid())
    with cluster.connect(kernel) as conversation:
        for _ in range(12):
            run = conversation.execute("print('x' * 30_000_000)", timeout=180)
            assert run.status == "ok"
            time.sleep(2)
        assert conversation.execute("'fine'", timeout=60).text == "'fine'"
    after = peak_mib(cluster.gateway_pid())
    print(f"the gateway's peak: {before} MiB before, {after} MiB after")
    log = (cluster.data / "logs" / "gateway.log").read_text()
    assert "reads too slowly" in log
    lazy.drop()
    assert after - before < 700


def test_a_thousand_connections_from_one_address(cluster, kernel, other):
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(socket.create_connection(("127.0.0.1", cluster.port), timeout=30))
        assert other.execute("n + 1", timeout=60).text == "2"
        assert cluster.call("GET", "/api/kernels")[0] == 200
        with cluster.connect(kernel) as conversation:
            assert conversation.execute("1 + 1", timeout=60).text == "2"


def test_an_oversized_body_and_an_oversized_frame_are_refused(cluster, kernel, other):
    status, body = cluster.call("POST", "/api/kernels", b"{" + b" " * (65 * MIB) + b"}", timeout=120)
    assert status == 413 and "64 MiB" in body["message"]
    with cluster.connect(kernel) as conversation:
        # The head alone of a frame of 200 MiB: refused before its payload comes.
        conversation.socket.sock.sendall(b"\x82\xff" + (200 * MIB).to_bytes(8, "big") + b"\0" * 4)
        with pytest.raises((Closed, websocket.WebSocketException)) as closed:
            for _ in range(100):
                conversation.receive(30)
        assert getattr(closed.value, "code", 1009) == 1009
    assert cluster.call("POST", "/api/kernels", b'{"env":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
                        )[0] == 400
    assert other.execute("n + 1", timeout=60).text == "2"


def test_an_interpreter_without_memory_ends_and_the_kernel_goes_on(cluster, kernel, other):
    with cluster.connect(kernel) as conversation:
        conversation.execute("kept = 5")
        run = conversation.execute(
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)  # as the kernel's OOM killer",
            timeout=120)
        assert run.error[0] == "ExecutorLost", run
        assert conversation.execute("kept", timeout=120).text == "5"
    assert other.execute("n + 1", timeout=60).text == "2"


def test_comms_are_closed_when_their_interpreter_is_lost(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        conversation.execute("from comm import create_comm\nc = create_comm(target_name='t')")
        opened = next(m for m in conversation.seen if m["header"]["msg_type"] == "comm_open")
        comm = opened["content"]["comm_id"]
        cluster.cli("kernel", "kill-replica", kernel)
        closed = conversation.wait_for(lambda m: m["header"]["msg_type"] == "comm_close", 60)
        assert closed["content"]["comm_id"] == comm
        asked = conversation.send("comm_msg", {"comm_id": comm, "data": {}})
        states = []
        while states != ["busy", "idle"]:
            message = conversation.receive(60)
            if (message["parent_header"].get("msg_id") == asked
                    and message["header"]["msg_type"] == "status"):
                states.append(message["content"]["execution_state"])
        run = conversation.execute("1", timeout=60)
        assert "Widgets of this notebook were closed (1 comms)" in run.text and run.text.endswith("1")
        reply = conversation.ask("comm_info_request", {})
        assert comm not in reply["content"]["comms"]
    poll("its replicas are ready", lambda: cluster.wait_replicas(kernel), 60)
