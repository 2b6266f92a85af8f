"""An interpreter or a host dies under a kernel whose client stays connected."""
import os
import random
import signal
import threading
import time

import pytest

from cluster import Cluster, poll
from conftest import running

LOST = "ExecutorLost"
SLOW = "import time\nlost = 1\nprint('on', flush=True)\nfor _ in range(600):\n    time.sleep(0.1)"


def kill_interpreter(cluster, kernel_id):
    cluster.cli("kernel", "kill-replica", kernel_id)


def kill_host(cluster, kernel_id):
    """Returns what brings the host back, so that the next test finds all four."""
    host = cluster.executor_host(kernel_id)
    cluster.kill_host(host)
    return host


@pytest.fixture(params=[kill_interpreter, kill_host])
def kill(request, cluster):
    killed = []

    def act(kernel_id):
        killed.append(request.param(cluster, kernel_id))

    yield act
    for host in killed:
        if host:
            cluster.start_host(host)
    poll("all hosts are up", cluster.all_hosts_up)


def test_between_cells_everything_goes_on(cluster, kernel, kill):
    with cluster.connect(kernel) as conversation:
        first = conversation.execute("x = [1, 2]\ny = {'x': x}")
        kill(kernel)
        second = conversation.execute("x.append(3)\ny['x'] is x, x", timeout=60)
        assert (second.status, second.text) == ("ok", "(True, [1, 2, 3])")
        assert (first.count, second.count) == (1, 2)
        assert second.statuses == ["busy", "idle"]
        assert {m["header"]["session"] for m in conversation.seen} == first.sessions


def test_in_the_middle_of_a_cell_it_ends_with_executor_lost(cluster, kernel, kill):
    with cluster.connect(kernel) as conversation:
        before = conversation.execute("kept = 'before'")
        lost = conversation.execute(SLOW, timeout=90, during=lambda run: kill(kernel))
        assert lost.status == "error"
        assert lost.error[0] == LOST
        assert lost.statuses == ["busy", "idle"]
        assert lost.count == 2
        errors = [content for kind, content in lost.outputs if kind == "error"]
        assert [content["ename"] for content in errors] == [LOST]
        # The message says what was kept.
        assert "before" in (errors[0]["evalue"] + "".join(errors[0]["traceback"])).lower()

        after = conversation.execute("kept, 'lost' in globals()", timeout=60)
        assert (after.status, after.text) == ("ok", "('before', False)")
        # The state is that of the cell before, but its count was shown and is not shown again.
        assert after.count == 3
        history = conversation.execute("[text[:4] for text in In]")
        assert (history.count, history.text) == (4, "['', 'kept', '', 'kept', '[tex']")
        assert after.statuses == ["busy", "idle"]
        assert before.sessions == lost.sessions == after.sessions
        assert len(after.sessions) == 1


def test_a_lost_host_is_replaced_on_the_spare_one(cluster, kernel):
    host = cluster.executor_host(kernel)
    with cluster.connect(kernel) as conversation:
        conversation.execute("import array\nbig = array.array('d', range(10_000))")
        cluster.kill_host(host)
        try:
            # Cells run while the new replica catches up.
            counts = [conversation.execute(f"big[{i}] = -1", timeout=60).count for i in range(5)]
            assert counts == [2, 3, 4, 5, 6]
            cluster.wait_replicas(kernel, without=[host])
            assert conversation.execute("sum(big[:6]), len(big)").text == "(0.0, 10000)"
        finally:
            cluster.start_host(host)
            poll("the host is back", cluster.all_hosts_up)


def test_every_replica_has_the_state(cluster, kernel):
    """The executor moves twice, so that each of the three has run a cell."""
    hosts = set()
    with cluster.connect(kernel) as conversation:
        conversation.execute("import random\nrandom.seed(1)\nsteps = []")
        for step in range(3):
            cluster.wait_replicas(kernel)
            hosts.add(cluster.executor_host(kernel))
            conversation.execute(f"steps.append(({step}, random.random()))")
            cluster.migrate(kernel)
        run = conversation.execute("import random as r; r.seed(1); "
                                   "steps == [(i, r.random()) for i in range(3)]")
        assert run.text == "True"
        assert len(hosts) >= 2


def test_random_numbers_go_on_where_they_stopped(cluster):
    """Also on replicas that load the whole state late, and after questions that are no cells."""
    kernel_id = cluster.start_kernel()
    try:
        with cluster.connect(kernel_id) as conversation:
            conversation.execute("import random\nrandom.seed(5)", timeout=60)
            ours = random.Random(5)
            for _ in range(4):
                cluster.migrate(kernel_id)
                assert conversation.ask("kernel_info_request")["content"]["status"] == "ok"
                assert conversation.execute("random.random()").text == repr(ours.random())
    finally:
        cluster.forget(kernel_id)


def test_queued_cells_survive_the_loss_of_the_running_one(cluster, kernel, kill):
    with cluster.connect(kernel) as conversation:
        conversation.execute("order = []")
        slow = conversation.submit(SLOW, stop_on_error=False)
        conversation.wait_for(lambda m: m["header"]["msg_type"] == "execute_input")
        queued = [conversation.submit(f"order.append({i})") for i in range(3)]
        kill(kernel)
        runs = collect(conversation, [slow, *queued])
        assert runs[slow]["status"] == "error"
        assert [runs[q]["status"] for q in queued] == ["ok"] * 3
        assert conversation.execute("order").text == "[0, 1, 2]"


def test_cells_behind_a_lost_one_are_aborted_as_behind_a_failed_one(cluster, kernel):
    """"Run all": what builds on a lost cell must not run without it."""
    with cluster.connect(kernel) as conversation:
        conversation.execute("order = []")
        slow = conversation.submit(SLOW)
        conversation.wait_for(lambda m: m["header"]["msg_type"] == "execute_input")
        queued = [conversation.submit(f"order.append({i})") for i in range(3)]
        kill_interpreter(cluster, kernel)
        runs = collect(conversation, [slow, *queued])
        assert runs[slow]["ename"] == LOST
        assert [runs[q]["status"] for q in queued] == ["aborted"] * 3
        assert conversation.execute("order").text == "[]"


def collect(conversation, msg_ids, timeout=90):
    """msg_id -> content of its execute_reply, for several cells that wait at once."""
    replies, end = {}, time.monotonic() + timeout
    while len(replies) < len(msg_ids):
        message = conversation.receive(max(0.01, end - time.monotonic()))
        parent = message["parent_header"].get("msg_id")
        if message["header"]["msg_type"] == "execute_reply" and parent in msg_ids:
            replies[parent] = message["content"]
    return replies


def test_a_crash_of_user_code_loses_no_variable(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        conversation.execute("survivor = 'here'")
        crash = conversation.execute("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
                                     timeout=60)
        assert crash.error[0] == LOST
        assert conversation.execute("survivor", timeout=60).text == "'here'"


@pytest.fixture
def own_cluster(cluster_folder, request):
    yield from running(Cluster(cluster_folder / "own"), "own")


def test_a_killed_gateway_loses_no_kernel(own_cluster):
    kernel_id = own_cluster.start_kernel()
    own_cluster.wait_replicas(kernel_id)
    with own_cluster.connect(kernel_id) as conversation:
        first = conversation.execute("x = 41")
    pid = own_cluster.gateway_pid()
    os.kill(pid, signal.SIGKILL)

    def back():
        try:
            return own_cluster.call("GET", f"/api/kernels/{kernel_id}")[0] == 200
        except OSError:
            return False

    poll("the gateway is back with its kernel", back, 60)
    with own_cluster.connect(kernel_id) as conversation:
        second = conversation.execute("x + 1", timeout=60)
        assert (second.text, second.count) == ("42", 2)
        assert second.sessions == first.sessions
    assert own_cluster.gateway_pid() != pid


def test_a_kernel_without_its_majority_waits_and_says_so(cluster, kernel):
    row = cluster.kernel_row(kernel)
    victims = [r["host"] for r in row["replicas"] if r["host"] != row["owner_host"]]
    with cluster.connect(kernel) as conversation:
        conversation.execute("kept = 1")
        try:
            for host in victims:
                cluster.kill_host(host)
            waiting = conversation.submit("kept + 1")
            reason = poll("it says why it waits", lambda: cluster.kernel_row(kernel)["reason"])
            assert "2 of its 3 replicas" in reason and "majority" in reason
            assert reason in cluster.cli("kernel", "list")
        finally:
            for host in victims:
                cluster.start_host(host)
            poll("all hosts are up", cluster.all_hosts_up)
        assert conversation.finish(waiting, timeout=60).text == "2"
        poll("nothing is left to say", lambda: cluster.kernel_row(kernel)["reason"] == "")


def test_a_stream_of_interrupts_wedges_nothing(cluster, kernel):
    """A person who hammers the stop button: every cell ends, and what was computed stays."""
    stop = threading.Event()

    def hammer():
        while not stop.is_set():
            cluster.call("POST", f"/api/kernels/{kernel}/interrupt")
            time.sleep(0.003)

    with cluster.connect(kernel) as conversation:
        conversation.execute("import time\nkept = 1")
        hammering = threading.Thread(target=hammer)
        hammering.start()
        try:
            runs = [conversation.execute(f"time.sleep(0.05); y = {i}") for i in range(15)]
        finally:
            stop.set()
            hammering.join()
        assert {run.status for run in runs} <= {"ok", "error", "aborted"}
        assert all(run.statuses == ["busy", "idle"] for run in runs)
        assert not [run.error for run in runs if run.status == "error" and run.error[0] == LOST]
        assert poll("it computes again", lambda: conversation.execute("kept").text) == "1"


def test_a_large_variable_and_a_large_output_arrive_whole(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        conversation.execute("import os")
        assert conversation.execute("big = os.urandom(60_000_000)", timeout=180).status == "ok"
        run = conversation.execute("print('x' * 70_000_000)", timeout=180)
        text = "".join(content["text"] for kind, content in run.outputs if kind == "stream")
        assert (run.status, len(text)) == ("ok", 70_000_001)
        cluster.migrate(kernel)
        assert conversation.execute("len(big)", timeout=180).text == "60000000"
