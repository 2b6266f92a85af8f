"""Kernels that were shut down, and are taken up again with all their variables."""
import signal
import uuid

import pytest

from cluster import Cluster, poll
from conftest import running
from stock import StockServer


@pytest.fixture(scope="module")
def parking(cluster_folder):
    yield from running(Cluster(cluster_folder / "parking", hosts=3, parked_for="1h"), "parking")


def kernel_with(cluster, code, **body):
    kernel_id = cluster.start_kernel(**body)
    cluster.wait_replicas(kernel_id)
    with cluster.connect(kernel_id) as conversation:
        assert conversation.execute(code).status == "ok"
    return kernel_id


def value(cluster, kernel_id, expression):
    with cluster.connect(kernel_id) as conversation:
        run = conversation.execute(expression, timeout=120)
        assert run.status == "ok", run
        return run.text


def listed(cluster):
    return {model["id"] for model in cluster.call("GET", "/api/kernels")[1]}


def test_a_deleted_kernel_comes_back_with_its_id_also_after_the_gateway_was_killed(parking):
    kernel_id = kernel_with(parking, "x = 41")
    assert parking.call("DELETE", f"/api/kernels/{kernel_id}")[0] == 204
    assert kernel_id not in listed(parking)
    assert parking.call("GET", f"/api/kernels/{kernel_id}")[0] == 404
    parking.kill_gateway()
    poll("a gateway lists", lambda: answers(parking), 60)
    assert kernel_id not in listed(parking)
    assert parking.start_kernel(kernel_id=kernel_id) == kernel_id
    assert value(parking, kernel_id, "x + 1") == "42"
    parking.cli("kernel", "delete", kernel_id)


def answers(cluster):
    try:
        return cluster.call("GET", "/api/kernels")[0] == 200
    except OSError:
        return False


def test_the_command_line_lists_revives_and_deletes(parking):
    kernel_id = kernel_with(parking, "y = 'kept'")
    parking.forget(kernel_id)
    rows = parking.cli("kernel", "list", "--parked", "--json")
    assert [row["id"] for row in rows] == [kernel_id] and rows[0]["parked_until"]
    assert kernel_id in parking.cli("kernel", "list", "--parked")
    assert kernel_id not in parking.cli("kernel", "list")
    parking.cli("kernel", "revive", kernel_id)
    assert value(parking, kernel_id, "y") == "'kept'"
    parking.cli("kernel", "delete", kernel_id)
    assert parking.cli("kernel", "list", "--parked", "--json") == []
    gone = parking.cli("kernel", "revive", kernel_id, "--json", check=False)
    assert gone.returncode == 1 and '"error"' in gone.stdout and kernel_id in gone.stderr


def test_a_notebook_gets_its_kernel_back_unless_its_user_shut_it_down(parking):
    def opened():
        status, session = parking.call("POST", "/api/sessions", {
            "path": "parked.ipynb", "type": "notebook", "kernel": {"name": "python3"}})
        assert status == 201
        return session["id"], session["kernel"]["id"]

    session, kernel_id = opened()
    parking.wait_replicas(kernel_id)
    assert value(parking, kernel_id, "z = 7; z") == "7"
    parking.forget(kernel_id)               # as a front server does when it is stopped
    session, again = opened()
    assert again == kernel_id and value(parking, kernel_id, "z") == "7"
    assert parking.call("DELETE", f"/api/sessions/{session}")[0] == 204     # as a person does
    session, fresh = opened()
    assert fresh != kernel_id
    for one in (kernel_id, fresh):
        parking.cli("kernel", "delete", one)


def test_what_runs_when_a_kernel_is_parked_is_interrupted(parking):
    kernel_id = kernel_with(parking, "n = 0")
    with parking.connect(kernel_id) as conversation:
        conversation.submit("import time\nwhile True:\n    n += 1; print(n, flush=True); time.sleep(.1)")
        conversation.wait_for(lambda m: "9" in m["content"].get("text", ""))
        assert parking.kernel_row(kernel_id)["execution_state"] == "busy"
        parking.forget(kernel_id)
    parking.start_kernel(kernel_id=kernel_id)
    poll("it is idle", lambda: parking.kernel_row(kernel_id)["execution_state"] == "idle", 60)
    assert int(value(parking, kernel_id, "n")) > 0
    parking.cli("kernel", "delete", kernel_id)


def test_a_front_server_that_is_stopped_and_started_finds_its_kernel(parking, tmp_path, monkeypatch):
    """SIGTERM makes a stock jupyter_server in gateway mode delete its kernels."""
    kernel_id = str(uuid.uuid4())
    monkeypatch.setenv("KERNEL_ID", kernel_id)
    monkeypatch.setenv("JUPYTER_GATEWAY_AUTH_TOKEN", parking.token)

    def front():
        return StockServer(str(tmp_path), "front", f"--gateway-url={parking.url}")

    server = front()
    try:
        assert server.start_kernel() == kernel_id
        parking.wait_replicas(kernel_id)
        assert value(parking, kernel_id, "kept = 'since before'; kept") == "'since before'"
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)
        poll("it is out of sight", lambda: kernel_id not in listed(parking), 30)
        server.stop()
        server = front()
        assert server.start_kernel() == kernel_id
        assert value(parking, kernel_id, "kept") == "'since before'"
    finally:
        server.stop()
    parking.cli("kernel", "delete", kernel_id)


def test_a_restart_without_a_majority_is_refused_and_not_done_later(parking):
    kernel_id = kernel_with(parking, "safe = 'kept'")
    hosts = [row["id"] for row in parking.host_rows()][:2]
    try:
        for host in hosts:
            parking.kill_host(host)
        poll("the gateway has noticed",
             lambda: sum(row["state"] == "up" for row in parking.host_rows()) == 1, 30)
        status, body = parking.call("POST", f"/api/kernels/{kernel_id}/restart", {}, timeout=40)
        assert status == 503 and "2 of the 3 hosts" in body["message"], (status, body)
        assert "not restarted" in body["message"]
        said = parking.cli("kernel", "restart", kernel_id, "--json", check=False)
        assert said.returncode == 1 and "2 of the 3 hosts" in said.stdout
    finally:
        for host in hosts:
            parking.start_host(host)
        poll("all hosts are up", parking.all_hosts_up, 120)
    parking.wait_replicas(kernel_id, timeout=120)
    assert value(parking, kernel_id, "safe") == "'kept'"
    parking.cli("kernel", "delete", kernel_id)


def test_without_a_majority_a_cell_says_that_it_waits_and_an_interrupt_says_that_it_cannot(parking):
    kernel_id = kernel_with(parking, "safe = 'kept'")
    hosts = [row["id"] for row in parking.host_rows()][:2]
    with parking.connect(kernel_id) as conversation:
        try:
            for host in hosts:
                parking.kill_host(host)
            poll("the gateway has noticed",
                 lambda: sum(row["state"] == "up" for row in parking.host_rows()) == 1, 30)
            cell = conversation.submit("print(safe)")
            told = conversation.wait_for(lambda m: m["header"]["msg_type"] == "stream")
            assert told["parent_header"]["msg_id"] == cell
            assert "This cell waits: 2 of its 3 replicas" in told["content"]["text"], told
            status, body = parking.call("POST", f"/api/kernels/{kernel_id}/interrupt", {})
            assert status == 503 and "has reached no cell" in body["message"], (status, body)
        finally:
            for host in hosts:
                parking.start_host(host)
            poll("all hosts are up", parking.all_hosts_up, 120)
        run = conversation.finish(cell, timeout=120)
        assert (run.status, run.outputs) == (
            "ok", [("clear_output", {"wait": False}), ("stream", {"name": "stdout", "text": "kept\n"})])
    parking.cli("kernel", "delete", kernel_id)
