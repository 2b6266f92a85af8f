"""Floods, clients that do not read, and very many connections: bounded, said, and no harm to others.

What was measured is printed (pytest -rP shows it).
"""
import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

import websocket

from cluster import Cluster, poll
from conftest import running
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


GIGABYTE = """
line = 'x' * 1023 + '\\n'
for n in range(1024):
    print(f'<{n}>' + line * 1024, end='')
"""
PEAK = "int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1]) >> 10"


def test_a_cell_that_prints_a_gigabyte(cluster, kernel, other):
    host = cluster.executor_host(kernel)
    pids = {"gateway": cluster.gateway_pid(), "agent": cluster.agent_pid(host)}
    with cluster.connect(kernel) as conversation:
        before = {name: peak_mib(pid) for name, pid in pids.items()}
        before["interpreter"] = int(conversation.execute(PEAK).text)
        cell = conversation.submit(GIGABYTE)
        began = time.monotonic()
        worst = 0.0
        for _ in range(5):
            asked = time.monotonic()
            assert other.execute("n + 1", timeout=120).text == "2"
            worst = max(worst, time.monotonic() - asked)
        run = conversation.finish(cell, timeout=400)
        assert run.status == "ok" and run.statuses == ["busy", "idle"]
        shown = "".join(content["text"] for kind, content in run.outputs if kind == "stream")
        after = {name: peak_mib(pid) for name, pid in pids.items()}
        after["interpreter"] = int(conversation.execute(PEAK, timeout=60).text)
        lines = elided_line(run)
        print(f"1 GiB printed in {time.monotonic() - began:.1f} s, {len(shown) / MIB:.0f} MiB shown, "
              f"another cell took at most {worst:.2f} s; peak MiB before {before}, after {after}; "
              f"{lines}")
        whole = "".join(f"<{n}>" + ("x" * 1023 + "\n") * 1024 for n in range(1 + len(shown) // MIB))
        assert len(shown) > 16 * MIB and whole.startswith(shown), "the beginning, without a gap"
        assert len(shown) < 400 * MIB and "left out" in lines[-1]
        grown = {name: after[name] - before[name] for name in before}
        assert grown["interpreter"] < 200 and grown["agent"] < 400 and grown["gateway"] < 800, grown
        assert conversation.execute("'usable'", timeout=60).text == "'usable'"


def test_a_flood_can_be_interrupted(cluster, kernel, other):
    with cluster.connect(kernel) as conversation:
        cell = conversation.submit("while True: print('x' * 100_000)")
        conversation.wait_for(lambda m: m["header"]["msg_type"] == "stream")
        assert other.execute("n + 1", timeout=120).text == "2"
        time.sleep(3)
        status, _ = cluster.call("POST", f"/api/kernels/{kernel}/interrupt")
        assert status == 204
        run = conversation.finish(cell, timeout=120)
        assert run.error[0] == "KeyboardInterrupt" and run.statuses[-1] == "idle"
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
    printed = 0
    with cluster.connect(kernel) as conversation:
        # 256 MiB wait for it at most, and besides what the two systems hold in their sockets.
        while "reads too slowly" not in (cluster.data / "logs" / "gateway.log").read_text():
            assert printed < 500, "it was not closed"
            run = conversation.execute("print('x' * 30_000_000)", timeout=180)
            assert run.status == "ok"
            assert sum(len(content["text"]) for _, content in run.outputs) == 30_000_001, "all of it"
            printed += 30
        assert conversation.execute("'fine'", timeout=60).text == "'fine'"
    after = peak_mib(cluster.gateway_pid())
    print(f"closed after {printed} MB; the gateway's peak: {before} MiB before, {after} MiB after")
    assert printed > 250
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


# ---- memory ----

LIMIT_MIB = 600


@pytest.fixture(scope="module")
def limited(cluster_folder):
    """A cluster whose kernels have a limit of memory."""
    yield from running(Cluster(cluster_folder / "limited", hosts=3,
                               options=("--interpreter-mib", LIMIT_MIB)), "limited")


def test_a_cell_that_fills_its_memory_is_told_the_limit(limited):
    kernel, other = limited.start_kernel(), limited.start_kernel()
    limited.wait_replicas(kernel)
    with limited.connect(kernel) as conversation, limited.connect(other) as bystander:
        conversation.execute("kept = 5")
        run = conversation.execute("grown = []\nwhile True: grown.append(bytes([1]) * (1 << 20))",
                                   timeout=180)
        assert run.error == ("MemoryError", f"the kernel ran out of memory (limit {LIMIT_MIB} MiB)")
        assert f"limit {LIMIT_MIB} MiB" in str(run.outputs)
        size = int(conversation.execute("len(grown)", timeout=180).text)
        assert conversation.execute("del grown\nkept", timeout=180).text == "5"
        print(f"{size} MiB fitted into {LIMIT_MIB}")
        assert 0 < size < LIMIT_MIB
        # Not everything in a process can go on without memory: then the cell says why it was lost.
        run = conversation.execute(
            f"import os\ngrown = bytes([1]) * ({LIMIT_MIB - 120} << 20)\nos.abort()", timeout=120)
        assert run.error[0] == "ExecutorLost", run.error
        assert f"the kernel ran out of memory (limit {LIMIT_MIB} MiB)" in run.error[1]
        assert conversation.execute("kept", timeout=120).text == "5"
        assert bystander.execute("1 + 1", timeout=60).text == "2"


def test_an_interpreter_that_is_killed_ends_and_the_kernel_goes_on(cluster, kernel, other):
    with cluster.connect(kernel) as conversation:
        conversation.execute("kept = 5")
        run = conversation.execute(
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)  # as the kernel's OOM killer",
            timeout=120)
        assert run.error[0] == "ExecutorLost", run
        assert conversation.execute("kept", timeout=120).text == "5"
    assert other.execute("n + 1", timeout=60).text == "2"


# ---- disks ----

DISK_MIB = 96


@contextlib.contextmanager
def small_disk(folder):
    folder.mkdir(parents=True)
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", str(folder)]
    subprocess.run(mounted, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def tight(cluster_folder):
    """A cluster whose host-1 has a small disk, and whose workspace is on another one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount small disks")
    folder = cluster_folder / "tight"
    with small_disk(folder / "hosts" / "host-1"), small_disk(cluster_folder / "work") as work:
        yield from running(Cluster(folder, workspace=work), "tight")


FILL = """
def fill(path):
    with open(path, 'wb') as file:
        while True:
            file.write(b'x' * (1 << 20))
            file.flush()
"""


def kernel_on(cluster, host):
    kernel = cluster.start_kernel()
    cluster.wait_replicas(kernel)
    if cluster.executor_host(kernel) != host:
        cluster.cli("kernel", "migrate", kernel, "--to", host)
    return kernel


def test_a_notebook_that_fills_its_disk_gets_the_error(tight):
    kernel = kernel_on(tight, "host-1")
    with tight.connect(kernel) as conversation:
        conversation.execute(FILL + "kept = 5")
        run = conversation.execute("fill('large')", timeout=120)
        assert run.error[0] == "OSError" and "No space left on device" in run.error[1], run.error
        assert conversation.execute("import os; os.unlink('large'); kept").text == "5"
    tight.forget(kernel)


def test_a_host_whose_log_has_no_room_hands_over(tight):
    kernel = kernel_on(tight, "host-1")
    filler = tight.data / "hosts" / "host-1" / "filler"
    with tight.connect(kernel) as conversation:
        conversation.execute(FILL + "kept = 5\nimport os")
        run = conversation.execute(f"fill({str(filler)!r})", timeout=120)
        assert run.error[0] == "OSError", run.error
        run = conversation.execute("large = os.urandom(20 << 20)", timeout=180)
        assert run.status == "ok" or run.error[0] == "ExecutorLost", run.error
        alone = conversation.execute("kept", timeout=180)
        assert (alone.status, alone.text) == ("ok", "5")
        if run.status == "ok":
            assert conversation.execute("len(large)", timeout=60).text == str(20 << 20)
        poll("the host has given up", lambda: "No space left" in
             (tight.data / "logs" / "host-1.log").read_text(), 60)
        assert tight.executor_host(kernel) != "host-1"
        filler.unlink()
        poll("the host is back", tight.all_hosts_up, 60)
        tight.wait_replicas(kernel, timeout=120)
        assert conversation.execute("kept", timeout=60).text == "5"
    tight.forget(kernel)


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
