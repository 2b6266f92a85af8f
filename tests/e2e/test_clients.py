"""What a Jupyter client may expect of one kernel, in both framings."""
import threading
import time

import pytest

from cluster import poll


@pytest.fixture(params=["v1", "legacy"])
def conversation(cluster, kernel, request):
    with cluster.connect(kernel, framing=request.param) as conversation:
        yield conversation


def test_the_subprotocol_is_the_one_offered(cluster, kernel):
    with cluster.connect(kernel, framing="v1") as v1, \
            cluster.connect(kernel, framing="legacy") as legacy:
        assert v1.subprotocol == "v1.kernel.websocket.jupyter.org"
        assert legacy.subprotocol is None


def test_the_token_is_taken_from_header_query_and_path(cluster, kernel):
    for where in ({"header_token": True}, {"header_token": False}):
        with cluster.connect(kernel, **where) as conversation:
            assert conversation.execute("1").text == "1"
    assert cluster.call("GET", f"/api/kernels?token={cluster.token}", token=None)[0] == 200
    assert cluster.call("GET", f"/t/{cluster.token}/api/kernels", token=None)[0] == 200


def test_the_first_request_right_behind_the_handshake_is_answered(cluster):
    kernel_id = cluster.start_kernel()
    try:
        with cluster.connect(kernel_id) as conversation:
            run = conversation.execute("6 * 7", timeout=60)
            assert (run.text, run.count, run.statuses) == ("42", 1, ["busy", "idle"])
    finally:
        cluster.forget(kernel_id)


def test_kernel_info_completion_inspection_and_the_like(conversation):
    conversation.execute("import math\nalphabet = 'abc'")
    info = conversation.ask("kernel_info_request")["content"]
    assert info["status"] == "ok"
    assert info["language_info"]["name"] == "python"
    assert info["protocol_version"].startswith("5.")
    complete = conversation.ask("complete_request", {"code": "alpha", "cursor_pos": 5})["content"]
    assert "alphabet" in complete["matches"]
    inspect = conversation.ask("inspect_request", {"code": "math.sqrt", "cursor_pos": 9,
                                                   "detail_level": 0})["content"]
    assert inspect["found"] and "square root" in inspect["data"]["text/plain"]
    for code, status in (("for x in y:", "incomplete"), ("x = 1", "complete"), ("x = = 1", "invalid")):
        assert conversation.ask("is_complete_request", {"code": code})["content"]["status"] == status
    assert conversation.ask("comm_info_request", {})["content"]["comms"] == {}


def test_history(conversation):
    conversation.execute("first = 1")
    conversation.execute("second = 2")
    reply = conversation.ask("history_request", {"hist_access_type": "tail", "n": 2, "raw": True,
                                                 "output": False})["content"]
    assert [entry[2] for entry in reply["history"]] == ["first = 1", "second = 2"]


def test_history_survives_a_migration(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        conversation.execute("first = 1")
        cluster.migrate(kernel)
        conversation.execute("second = 2")
        reply = conversation.ask("history_request", {"hist_access_type": "tail", "n": 2,
                                                     "raw": True, "output": False})["content"]
        assert [entry[2] for entry in reply["history"]] == ["first = 1", "second = 2"]


def test_every_request_has_one_busy_and_one_idle(conversation):
    runs = [conversation.execute(code) for code in ("pass", "1 / 0", "print(1)\n2")]
    assert [run.statuses for run in runs] == [["busy", "idle"]] * 3
    assert [run.count for run in runs] == [1, 2, 3]
    msg_id = conversation.send("is_complete_request", {"code": "x"})
    seen = [m for m in conversation.drain(1.0) if m["parent_header"].get("msg_id") == msg_id]
    states = [m["content"]["execution_state"] for m in seen if m["header"]["msg_type"] == "status"]
    assert states == ["busy", "idle"]


def test_input_is_answered(conversation):
    run = conversation.execute("a = input('a? ')\nb = input('b? ')\nprint(a + b)", ["x", "y"])
    assert (run.status, run.text) == ("ok", "xy\n")


def test_without_stdin_input_is_an_error(conversation):
    run = conversation.execute("input('? ')", allow_stdin=False)
    assert run.error[0] == "StdinNotImplementedError"


def test_expressions_and_silent_cells(conversation):
    run = conversation.execute("x = 20", user_expressions={"twice": "x * 2", "bad": "nothing"})
    expressions = run.reply["content"]["user_expressions"]
    assert expressions["twice"]["data"]["text/plain"] == "40"
    assert expressions["bad"]["ename"] == "NameError"
    silent = conversation.execute("y = x\n'unseen'", silent=True, store_history=False)
    assert silent.status == "ok" and silent.outputs == []
    after = conversation.execute("y")
    assert (after.text, after.count) == ("20", 2)


def test_a_running_cell_is_interrupted(cluster, kernel, conversation):
    def interrupt(_):
        assert cluster.call("POST", f"/api/kernels/{kernel}/interrupt")[0] == 204

    began = time.monotonic()
    run = conversation.execute("reached = 1\nprint(reached, flush=True)\n"
                               "import time\ntime.sleep(60)", timeout=50, during=interrupt)
    assert run.error[0] == "KeyboardInterrupt"
    assert run.statuses == ["busy", "idle"]
    assert time.monotonic() - began < 50
    # What the cell did before is kept.
    assert conversation.execute("reached").text == "1"


def test_interrupt_request_on_the_control_channel(conversation):
    def interrupt(_):
        conversation.send("interrupt_request", channel="control")

    run = conversation.execute("print('on', flush=True)\nwhile True: pass", timeout=50,
                               during=interrupt)
    assert run.error[0] == "KeyboardInterrupt"


SLOW_WIDGET = """
import time
from comm import get_comm_manager

def opened(comm, _):
    @comm.on_msg
    def pressed(_):
        comm.send("on")
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            comm.send("stopped")

get_comm_manager().register_target("slow", opened)
"""


def test_a_callback_of_a_widget_is_interrupted(cluster, kernel, conversation):
    def says(data):
        return lambda message: (message["header"]["msg_type"] == "comm_msg"
                                and message["content"]["data"] == data)

    assert conversation.execute(SLOW_WIDGET).status == "ok"
    conversation.send("comm_open", {"comm_id": "w", "target_name": "slow", "data": {}})
    conversation.send("comm_msg", {"comm_id": "w", "data": {}})
    conversation.wait_for(says("on"))
    assert cluster.call("POST", f"/api/kernels/{kernel}/interrupt")[0] == 204
    conversation.wait_for(says("stopped"))
    assert conversation.execute("1 + 1").text == "2"


def test_an_interrupt_of_a_kernel_that_has_nothing_to_do_costs_nothing(cluster, kernel):
    cluster.wait_replicas(kernel)
    for _ in range(20):  # before its first request, too
        assert cluster.call("POST", f"/api/kernels/{kernel}/interrupt")[0] == 204
    with cluster.connect(kernel) as conversation:
        before = conversation.execute("import os\nos.getpid()").text
        for _ in range(20):
            assert cluster.call("POST", f"/api/kernels/{kernel}/interrupt")[0] == 204
        assert conversation.execute("os.getpid()").text == before
    poll("all interpreters are ready", lambda: [
        replica["interpreter"] for replica in cluster.kernel_row(kernel)["replicas"]] == ["ready"] * 3)


def test_an_error_aborts_what_is_queued_behind_it(conversation):
    slow = conversation.submit("import time\ntime.sleep(0.5)\n1 / 0")
    queued = conversation.submit("ran = True")
    first, second = {}, {}
    while not (first and second):
        message = conversation.receive(30)
        if message["header"]["msg_type"] == "execute_reply":
            target = {slow: first, queued: second}[message["parent_header"]["msg_id"]]
            target.update(message["content"])
    assert (first["status"], second["status"]) == ("error", "aborted")
    assert conversation.execute("'ran' in globals()").text == "False"


def test_a_restart_begins_anew(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        before = conversation.execute("x = 1")
        status, model = cluster.call("POST", f"/api/kernels/{kernel}/restart")
        assert status == 200 and model["id"] == kernel
        after = conversation.execute("'x' in globals()", timeout=60)
        assert (after.text, after.count) == ("False", 1)
        # A client takes a new session id for a restarted kernel.
        assert before.sessions.isdisjoint(after.sessions)


def test_a_restart_ends_a_running_cell(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        msg_id = conversation.submit("while True: pass")
        conversation.wait_for(lambda m: m["header"]["msg_type"] == "execute_input")
        assert cluster.call("POST", f"/api/kernels/{kernel}/restart")[0] == 200
        assert conversation.execute("1 + 1", timeout=60).count == 1
        assert not [m for m in conversation.seen if m["parent_header"].get("msg_id") == msg_id
                    and m["header"]["msg_type"] == "execute_reply"
                    and m["content"]["status"] == "ok"]


def test_two_clients_see_one_kernel(cluster, kernel):
    with cluster.connect(kernel) as one, cluster.connect(kernel, framing="legacy") as two:
        run = one.execute("shared = 5\nprint('hello')")
        output = two.wait_for(lambda m: m["header"]["msg_type"] == "stream")
        assert output["parent_header"]["msg_id"] == run.msg_id
        other = two.execute("shared + 1")
        assert (other.text, other.count) == ("6", 2)
        # Replies go to the asker alone; what is published goes to both.
        replies = [m for m in one.drain(0.5) + one.seen
                   if m["header"]["msg_type"] == "execute_reply"]
        assert {m["parent_header"]["msg_id"] for m in replies} == {run.msg_id}
        assert any(m["parent_header"].get("msg_id") == other.msg_id for m in one.seen)


def test_cells_of_two_clients_all_run_in_some_order(cluster, kernel):
    with cluster.connect(kernel) as one:
        one.execute("seen = []")
        counts, errors = [], []

        def work(name):
            try:
                with cluster.connect(kernel) as conversation:
                    for step in range(10):
                        run = conversation.execute(f"seen.append(({name!r}, {step}))", timeout=60)
                        counts.append(run.count)
            except Exception as error:  # into the main thread
                errors.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert sorted(counts) == list(range(2, 22))
        run = one.execute("len(seen), [s for n, s in seen if n == 'a'] == list(range(10))")
        assert run.text == "(20, True)"


def test_input_goes_to_the_client_that_runs_the_cell(cluster, kernel):
    with cluster.connect(kernel) as one, cluster.connect(kernel) as two:
        run = one.execute("input('who? ')", ["me"])
        assert run.text == "'me'"
        assert not [m for m in two.drain(0.5) if m["header"]["msg_type"] == "input_request"]


def test_a_dropped_client_comes_back_to_its_cell(cluster, kernel):
    """The same session id gets what it missed, the reply included."""
    first = cluster.connect(kernel)
    msg_id = first.submit("import time\ntime.sleep(1.5)\nprint('done')\n7")
    first.wait_for(lambda m: m["header"]["msg_type"] == "execute_input")
    first.drop()
    time.sleep(2.5)
    with cluster.connect(kernel, session=first.session) as again:
        run = again.finish(msg_id, timeout=30)
        assert run.text == "done\n7"
        assert run.statuses[-1] == "idle"


def test_rest_models(cluster, kernel):
    status, model = cluster.call("GET", f"/api/kernels/{kernel}")
    assert status == 200
    assert set(model) >= {"id", "name", "last_activity", "execution_state", "connections"}
    time.strptime(model["last_activity"], "%Y-%m-%dT%H:%M:%S.%fZ")
    assert isinstance(model["connections"], int)
    status, models = cluster.call("GET", "/api/kernels")
    assert status == 200 and kernel in [m["id"] for m in models]
    status, specs = cluster.call("GET", "/api/kernelspecs")
    assert status == 200 and specs["default"] in specs["kernelspecs"]
    spec = specs["kernelspecs"][specs["default"]]["spec"]
    assert spec["language"] == "python" and spec["argv"] and spec["display_name"]
    status, one = cluster.call("GET", f"/api/kernelspecs/{specs['default']}")
    assert status == 200 and one["spec"] == spec
    assert cluster.call("GET", "/api", token=None)[0] == 200
    status, state = cluster.call("GET", "/api/status")
    assert status == 200 and state["kernels"] >= 1


def test_busy_is_shown_while_a_cell_runs(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        def look(_):
            assert cluster.call("GET", f"/api/kernels/{kernel}")[1]["execution_state"] == "busy"

        conversation.execute("import time\nprint('on', flush=True)\ntime.sleep(1)", during=look)
        poll("idle again", lambda: cluster.call("GET", f"/api/kernels/{kernel}")[1][
            "execution_state"] == "idle", 10)


def test_sessions(cluster):
    name = cluster.call("GET", "/api/kernelspecs")[1]["default"]
    status, session = cluster.call("POST", "/api/sessions", {
        "path": "a.ipynb", "name": "a.ipynb", "type": "notebook", "kernel": {"name": name}})
    assert status == 201
    kernel_id = session["kernel"]["id"]
    try:
        assert cluster.call("GET", f"/api/sessions/{session['id']}")[1]["kernel"]["id"] == kernel_id
        status, patched = cluster.call("PATCH", f"/api/sessions/{session['id']}",
                                       {"path": "b.ipynb"})
        assert status == 200 and patched["path"] == "b.ipynb"
        assert session["id"] in [s["id"] for s in cluster.call("GET", "/api/sessions")[1]]
        with cluster.connect(kernel_id) as conversation:
            assert conversation.execute("1", timeout=60).text == "1"
    finally:
        assert cluster.call("DELETE", f"/api/sessions/{session['id']}")[0] == 204
    poll("its kernel is gone", lambda: cluster.call("GET", f"/api/kernels/{kernel_id}")[0] == 404)


def test_a_large_output_arrives_whole(conversation):
    run = conversation.execute("print('x' * 3_000_000)")
    assert len(run.text) == 3_000_001


def test_buffers_of_a_comm_arrive(conversation):
    code = ("from comm import create_comm\n"
            "c = create_comm(target_name='t', data={'n': 1}, buffers=[b'\\x00\\xff\\x80'])")
    conversation.execute(code)
    opened = [m for m in conversation.seen if m["header"]["msg_type"] == "comm_open"]
    assert [m["content"]["target_name"] for m in opened] == ["t"]
    assert [bytes(b) for b in opened[0]["buffers"]] == [b"\x00\xff\x80"]
