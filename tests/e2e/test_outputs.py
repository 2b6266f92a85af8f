"""GET /api/nbos/kernels/ID/outputs: what the log of a kernel has of one cell's outputs."""
from cluster import poll


def outputs(cluster, kernel, msg_id, **query):
    more = "".join(f"&{name}={value}" for name, value in query.items())
    return cluster.call("GET", f"/api/nbos/kernels/{kernel}/outputs?msg_id={msg_id}{more}")


def kinds(body):
    return [message["header"]["msg_type"] for message in body["messages"]]


def test_outputs_of_cells_that_ended(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        cell = conversation.execute("print('first')\n1 + 1")
        failed = conversation.execute("print('second')\n1 / 0")
        status, body = outputs(cluster, kernel, cell.msg_id)
        assert (status, body["state"], body["session"]) == (200, "ended", conversation.session)
        assert kinds(body) == ["execute_input", "stream", "execute_result", "execute_reply"]
        assert body["messages"][1]["content"] == {"name": "stdout", "text": "first\n"}
        assert body["messages"][1]["parent_header"]["msg_id"] == cell.msg_id
        host = cluster.migrate(kernel)   # the log is on every replica
        assert conversation.execute("1").status == "ok" and cluster.executor_host(kernel) == host
        assert outputs(cluster, kernel, cell.msg_id) == (status, body)
        status, body = outputs(cluster, kernel, failed.msg_id, session=conversation.session)
        assert kinds(body) == ["execute_input", "stream", "error", "execute_reply"]


def test_outputs_of_a_cell_that_runs_or_was_lost(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        cell = conversation.submit("print('on', flush=True)\nimport time; time.sleep(60)")
        waits = conversation.submit("2")
        conversation.wait_for(lambda m: m["header"]["msg_type"] == "stream")
        status, body = outputs(cluster, kernel, cell)
        assert (status, body["state"], kinds(body)) == (200, "running", ["execute_input", "stream"])
        poll("the other is in the log", lambda: outputs(cluster, kernel, waits)[0] == 200, 20)
        assert outputs(cluster, kernel, waits)[1]["state"] == "queued"
        cluster.cli("kernel", "kill-replica", kernel)
        assert conversation.finish(cell).error[0] == "ExecutorLost"
        status, body = outputs(cluster, kernel, cell)
        assert (status, body["state"]) == (200, "lost") and body["reason"]


def test_what_is_not_known_is_said(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        cell = conversation.execute("1").msg_id
    for query, wanted, text in ((f"?msg_id={cell}&session=other", 404, cell),
                                ("?msg_id=no-such-cell", 404, "no-such-cell"),
                                ("", 400, "msg_id")):
        status, body = cluster.call("GET", f"/api/nbos/kernels/{kernel}/outputs{query}")
        assert status == wanted and text in body["message"], (query, body)
    nobody = "11111111-2222-3333-4444-555555555555"
    assert outputs(cluster, nobody, "x")[0] == 404
    assert cluster.call("GET", f"/api/nbos/kernels/{kernel}/outputs?msg_id=x", token="wrong")[0] == 401
