"""The interpreter against docs/reference/interpreter-protocol.md, with a script as the agent."""

import os
import re
import select
import signal
import threading

import pytest
from agent_side import Agent, Table
from nbos_kernel import frames


def test_hello_names_the_process(agent):
    warm = agent.fork()
    assert set(warm.hello) == {"pid", "token", "python", "ipykernel", "engine"}
    assert os.getsid(warm.pid) == warm.pid
    warm.close()
    report = agent.report()
    assert (report["token"], report["pid"], report["exit"]) == (warm.token, warm.pid, 0)


def test_a_killed_interpreter_is_reported_with_its_signal(agent):
    warm = agent.fork()
    os.kill(warm.pid, signal.SIGKILL)
    assert agent.report()["signal"] == signal.SIGKILL
    warm.close()


def test_shutdown_ends_a_busy_interpreter(agent):
    busy = agent.start()
    busy.start_cell("while True: pass")
    frames.send(busy.link, frames.SHUTDOWN, {})
    assert agent.report()["pid"] == busy.pid
    busy.close()


def test_adopt_sets_session_directory_and_environment(interpreters, tmp_path):
    python = interpreters(session="the-session", cwd=str(tmp_path), env={"A": "1", "HOME": "/"})
    cell = python.run("import os; (os.getcwd(), os.environ['A'], os.environ['HOME'])")
    assert cell.result() == repr((str(tmp_path), "1", "/"))
    # What the agent's environment has besides, and no seed of ours.
    ours = "[n for n in os.environ if 'HASHSEED' in n]"
    assert python.run(f"os.environ['PATH'] == {os.environ['PATH']!r}, {ours}").result() == "(True, [])"
    assert cell.reply["header"]["session"] == "the-session"


def test_the_debugger_keeps_its_advice_to_itself(interpreters):
    cell = interpreters().run("import os; 'PYDEVD_DISABLE_FILE_VALIDATION' in os.environ")
    assert cell.result() == "True"


def test_a_cell_runs_whichever_of_run_and_request_comes_first(interpreters):
    python = interpreters()
    assert python.run("1 + 1", run_first=True).result() == "2"
    assert python.run("2 + 2", run_first=False).result() == "4"


def test_a_standby_continues(interpreters):
    executor, standby = interpreters(), interpreters()
    for code in ("x = [1, 2]; import math", "def f(n): return n * len(x)", "y = f(21)"):
        assert standby.apply(executor.run(code).delta) == {"ok": True, "error": None, "sequence": executor.sequence}
    cell = standby.run("x, y, f(3), math.floor(2.5), In[2]")
    assert cell.result() == "([1, 2], 42, 6, 2, 'def f(n): return n * len(x)')"
    assert cell.reply["content"]["execution_count"] == 4


def test_deleted_names_are_deleted(interpreters):
    executor, standby = interpreters(), interpreters()
    standby.apply(executor.run("a = 1; b = 2").delta)
    standby.apply(executor.run("del a").delta)
    assert standby.evaluate("'a' in globals(), b") == "(False, 2)"


def test_a_snapshot_loads(interpreters):
    executor, table = interpreters(), Table()
    for code in ("x = 1", "y = [x]", "del x"):
        table.merge(executor.run(code).delta)
    late = interpreters()
    assert late.load(table.as_delta(), 3)["ok"]
    assert late.run("y, 'x' in globals()").result() == "([1], False)"


def test_a_failing_cell_keeps_its_partial_effects(interpreters):
    executor, standby = interpreters(), interpreters()
    cell = executor.run("x = 1\nraise ValueError('no')")
    assert cell.reply["content"]["ename"] == "ValueError"
    standby.apply(cell.delta)
    assert standby.run("x").result() == "1"


def test_code_does_not_run_on_another_base(interpreters):
    python = interpreters()
    python.run("x = 1")
    cell = python.run("x = 2", base=7)
    assert "sequence" in cell.header["error"]
    assert cell.reply["content"]["status"] == "error"
    assert python.evaluate("x") == "1"


def test_a_delta_on_another_base_is_refused(interpreters):
    executor, standby = interpreters(), interpreters()
    delta = executor.run("x = 1").delta
    answer = standby.apply(delta, sequence=9, base=8)
    assert not answer["ok"] and "sequence" in answer["error"]


def test_what_cannot_be_carried_is_named(interpreters):
    python = interpreters()
    cell = python.run("g = (n for n in range(3)); next(g)")
    assert [item["path"] for item in cell.unsupported] == ["g"]
    assert cell.reply["metadata"]["notebookos"]["unsupported"] == cell.unsupported
    assert "g (generator)" in cell.text("stderr")


def test_arrays_beside_a_deep_structure_are_carried(interpreters):
    executor, standby = interpreters(), interpreters()
    make = (
        "import numpy as np\nclass O: pass\no = O(); o.a = np.arange(3.); arr = np.ones(2); L = [np.zeros(1)]\n"
        "rec = np.zeros(2, dtype=[('a', 'i4')])"
    )
    for code in (make, "d = []\nfor _ in range(5000): d = [d]", "arr[0] = 7; rec['a'] = 2", "del d", "1"):
        cell = executor.run(code)
        assert cell.unsupported == []
        assert standby.apply(cell.delta)["ok"]
    sums = "[float(x) for x in (o.a.sum(), arr.sum(), L[0].sum(), rec['a'].sum())]"
    assert standby.evaluate(sums) == "[3.0, 8.0, 0.0, 4.0]"


def test_what_cannot_be_carried_is_announced_once(interpreters):
    python = interpreters()
    assert [item["path"] for item in python.run("g = (n for n in [1]); g").unsupported] == ["g"]
    assert [item["path"] for item in python.run("(n for n in [2])").unsupported] == ["_2"]
    for code in ("3", "4", "5", "h = 6", "7", "del g"):
        assert python.run(code).unsupported == []
    assert [item["path"] for item in python.run("mine = _1").unsupported] == ["mine"]


def test_closed_files_travel_silently(interpreters, tmp_path):
    executor, standby = interpreters(), interpreters()
    path = str(tmp_path / "text")
    code = (
        f"with open({path!r}, 'w') as out: out.write('a')\nwith open({path!r}) as text: text.read()\n"
        f"with open({path!r}, 'rb') as raw: raw.read()\nwith open({path!r}, 'rb+') as both: both.read()"
    )
    cell = executor.run(code)
    assert cell.unsupported == []
    standby.apply(cell.delta)
    facts = "[(type(f).__name__, f.name, f.mode, f.closed) for f in (out, text, raw, both)]"
    assert standby.evaluate(facts) == executor.evaluate(facts)
    content = standby.run("text.read()").reply["content"]
    assert (content["ename"], "closed file" in content["evalue"]) == ("ValueError", True)


def test_the_recursion_limit_travels(interpreters):
    executor, standby = interpreters(), interpreters()
    standby.apply(executor.run("import sys; sys.setrecursionlimit(5000)").delta)
    assert standby.evaluate("sys.getrecursionlimit()") == "5000"


def test_a_notice_names_a_long_path_shortly(interpreters):
    code = "k = [i for i in range(1)]; k[0] = (n for n in k)\nfor _ in range(100): k = [k]"
    (item,) = interpreters().run(code).unsupported
    assert item["path"].startswith("k[0][0]") and item["path"].endswith("[0]")
    assert "…" in item["path"] and len(item["path"]) <= 120


def test_interrupt_ends_a_cell_and_keeps_what_it_did(interpreters):
    executor, standby = interpreters(), interpreters()
    msg_id = executor.start_cell("x = 5\nprint('go', flush=True)\nwhile True: pass")
    while executor.receive(executor.iopub)["msg_type"] != "stream":
        pass
    os.kill(executor.pid, signal.SIGINT)
    cell = executor.finish_cell(msg_id)
    assert cell.reply["content"]["ename"] == "KeyboardInterrupt"
    standby.apply(cell.delta)
    assert standby.run("x").result() == "5"


class Flood:
    """Interrupts a process again and again, for the length of a with statement."""

    def __init__(self, pid, pause_s):
        self._pid, self._pause_s = pid, pause_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._interrupt)

    def _interrupt(self):
        while not self._ended.wait(self._pause_s):
            os.kill(self._pid, signal.SIGINT)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *exc):
        self._ended.set()
        self._thread.join()


FLOODED = {
    "sleeping": "import time\ntime.sleep(0.05)\ny0 = 0",
    "short": "y0 = 0",
    "failing": "1 / 0",
    "awaiting": "import asyncio\nawait asyncio.sleep(0.05)",
    "slow to show": "class Worse(Exception):\n    def __str__(self): time.sleep(0.05)\nraise Worse",
    "default handler": "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\ntime.sleep(0.05)",
    "own handler": "import signal, time\nsignal.signal(signal.SIGINT, lambda *_: 1 / 0)\ntime.sleep(0.05)",
    "catching": "import time\nfor _ in range(5):\n    try: time.sleep(0.02)\n    except KeyboardInterrupt: pass",
    "displaying": "class Shown:\n    def _repr_html_(self): time.sleep(0.02)\nimport time; Shown()",
}


@pytest.mark.parametrize("name", FLOODED)
def test_interrupts_lose_no_delta_and_no_reply(interpreters, name):
    python = interpreters()
    python.run("kept = [0]")
    with Flood(python.pid, 0.002):
        cells = [python.run(FLOODED[name], user_expressions={"k": "kept"}) for _ in range(30)]
    assert [cell.header["error"] for cell in cells] == [None] * 30
    for sock in (python.shell, python.link):
        assert not (sock.poll(100) if sock is python.shell else select.select([sock], [], [], 0.1)[0])
    python.run("kept.append(1)")
    assert python.evaluate("kept") == "[0, 1]"


def test_an_interrupt_before_the_cell_begins_is_not_lost(interpreters):
    python = interpreters()
    python.run("import os, signal, time")
    msg_id = python.start_cell("while True: time.sleep(0.01)")
    while python.receive(python.iopub)["msg_type"] != "execute_input":
        pass
    os.kill(python.pid, signal.SIGINT)
    cell = python.finish_cell(msg_id)
    assert cell.reply["content"]["ename"] == "KeyboardInterrupt"


def test_an_interrupt_shows_the_users_line_only(interpreters):
    python = interpreters()
    cell = python.run("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nx = 1")
    assert cell.reply["content"]["ename"] == "KeyboardInterrupt"
    shown = "\n".join(cell.reply["content"]["traceback"])
    assert "interrupts.py" not in shown and "os.kill" in re.sub(r"\x1b\[[0-9;]*m", "", shown)


def test_sigint_handlers_of_user_code_work_and_end_with_the_cell(interpreters):
    executor, standby = interpreters(), interpreters()
    code = (
        "import os, signal\ncalls = []\n"
        "was = signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "old = signal.signal(signal.SIGINT, lambda *_: calls.append(1))\n"
        "os.kill(os.getpid(), signal.SIGINT)\nwas, calls"
    )
    cell = executor.run(code)
    assert (cell.result(), cell.unsupported) == ("(True, [1])", [])
    standby.apply(cell.delta)
    assert executor.run("signal.getsignal(signal.SIGINT) is old, calls").result() == "(True, [1])"
    standby.sequence = 1
    assert standby.run("signal.getsignal(signal.SIGINT) is old, calls").result() == "(True, [1])"


def test_input_is_interrupted(interpreters):
    python = interpreters()
    msg_id = python.start_cell("input('who? ')", allow_stdin=True)
    python.receive(python.stdin)
    os.kill(python.pid, signal.SIGINT)
    assert python.finish_cell(msg_id).reply["content"]["ename"] == "KeyboardInterrupt"


def test_await_is_interrupted(interpreters):
    python = interpreters()
    msg_id = python.start_cell("import asyncio\nprint('go', flush=True)\nawait asyncio.sleep(1000)")
    while python.receive(python.iopub)["msg_type"] != "stream":
        pass
    os.kill(python.pid, signal.SIGINT)
    assert python.finish_cell(msg_id).reply["content"]["ename"] == "CancelledError"


def test_a_cell_that_breaks_its_output_still_gets_a_reply(interpreters):
    python = interpreters()
    code = "import sys\nclass Broken:\n    def __getattr__(self, name): raise OSError('broken')\nsys.stdout = Broken()"
    msg_id = python.start_cell(code)
    python.expect(frames.DELTA)
    reply = python.receive(python.shell)
    assert (reply["parent_header"]["msg_id"], reply["content"]["ename"]) == (msg_id, "OSError")


def test_input_reaches_the_cell(interpreters):
    python = interpreters()
    msg_id = python.start_cell("name = input('who? ')", allow_stdin=True)
    request = python.receive(python.stdin)
    assert request["content"]["prompt"] == "who? "
    python.session.send(python.stdin, "input_reply", {"value": "Ada"}, parent=request)
    python.finish_cell(msg_id)
    assert python.run("name").result() == "'Ada'"


def test_top_level_await(interpreters):
    python = interpreters()
    assert python.run("import asyncio\nawait asyncio.sleep(0)\n7").result() == "7"


def test_history_of_the_session_survives_failover(interpreters):
    executor, standby = interpreters(), interpreters()
    for code in ("first = 1", "%time first"):
        standby.apply(executor.run(code).delta)
    for python in (executor, standby):
        request = {"hist_access_type": "tail", "output": False, "raw": True, "n": 5}
        reply = python.request("history_request", request)
        assert [entry[2] for entry in reply["content"]["history"]] == ["first = 1", "%time first"]
        request = {"hist_access_type": "range", "output": False, "raw": True, "session": 0, "start": 1}
        reply = python.request("history_request", request)
        assert [entry[2] for entry in reply["content"]["history"]] == ["first = 1", "%time first"]
    assert standby.run("%history").text() == "first = 1\n%time first\n%history\n"


def test_an_executor_deletes_only_what_the_table_has(interpreters):
    """Whoever runs the next cell: errors leave traces in sys that are on no other replica."""
    three, table = [interpreters(replica=n) for n in (1, 2, 3)], Table()
    cells = ["class Own(Exception): pass\nraise Own", "1 / 0", "x = 1", "x +=", "1 / 0", "x"]
    for number, code in enumerate(cells):
        executor = three[number % 3]
        cell = executor.run(code)
        table.merge(cell.delta)
        for standby in three:
            assert standby is executor or standby.apply(cell.delta)["ok"]
    assert cell.result() == "1"


def test_an_interpreter_waits_for_its_agent_and_repeats_its_cell(agent):
    python = agent.start(outlives_agent_s=60)
    python.run("x = 1")
    frames.send(python.link, frames.SETTLED, {"cell": 1})
    frames.send(python.link, frames.EXPECT, {"cell": 2, "epoch": 1})
    msg_id = python.start_cell("import time; print('a', flush=True); time.sleep(1); x = 2; print('b'); x")
    while python.receive(python.iopub)["msg_type"] != "stream":
        pass
    python.link.close()
    for sock in (python.shell, python.stdin, python.control, python.iopub):
        sock.close()
    link, _ = agent._accept(agent._state)
    kind, hello, _ = frames.receive(link)
    run = {"cell": 2, "epoch": 1, "base": 1}
    owner = {"kernel": "k1", "replica": 1, "session": "s1", "known": True, "sequence": 1, "run": run}
    owner["expects"] = {"cell": 2, "epoch": 1}
    assert (kind, hello["token"], hello["resume"]) == (frames.HELLO, python.token, owner)
    frames.send(link, frames.RESUME, {})
    repeated = []
    while not repeated or repeated[-1][0] != frames.DELTA:
        repeated.append(frames.receive(link))
    texts = [body for kind, header, body in repeated if kind == frames.MESSAGE]
    assert b'"a\\n"' in b"".join(texts)
    assert b"nbos_kernel:" not in b"".join(texts)     # what the link says is no output of the cell
    assert repeated[-1][1]["msg_id"] == msg_id
    assert frames.REPEATED in [kind for kind, _, _ in repeated]
    frames.send(link, frames.SHUTDOWN, {})
    assert agent.report()["token"] == python.token
    link.close()


def reconnected(agent, python):
    """What the interpreter says it has, when its agent was lost and is there again."""
    python.link.close()
    python.link, _ = agent._accept(agent._state)
    kind, hello, _ = frames.receive(python.link)
    assert kind == frames.HELLO
    frames.send(python.link, frames.RESUME, {})
    while frames.receive(python.link)[0] != frames.REPEATED:
        pass
    return hello["resume"]


def end(agent, python):
    """So that it does not come back to the agent of the next test."""
    frames.send(python.link, frames.SHUTDOWN, {})
    assert agent.report()["token"] == python.token


def test_a_cell_that_waits_for_its_run_frame_is_dropped_with_its_agent(agent, tmp_path):
    python = agent.start(outlives_agent_s=60)
    marker = tmp_path / "began"
    python.send("execute_request", {"code": f"open({str(marker)!r}, 'w')"})
    while python.receive(python.iopub)["content"].get("execution_state") != "busy":
        pass
    assert reconnected(agent, python)["run"] == {}
    assert python.request("kernel_info_request", {})["content"]["status"] == "ok"
    assert python.run("x = 1; x").result() == "1"
    assert not marker.exists()
    end(agent, python)


def test_what_an_agent_has_allowed_is_void_when_it_is_gone(agent, tmp_path):
    """Its run frame was served, its request comes late: the next agent lets the cell run elsewhere."""
    python = agent.start(outlives_agent_s=60)
    marker = tmp_path / "began"
    late = python.session.msg("execute_request", {"code": f"open({str(marker)!r}, 'w')", "silent": False})
    run = {"cell": 1, "epoch": 1, "msg_id": late["header"]["msg_id"], "base": 0}
    frames.send(python.link, frames.RUN, run)
    assert python.apply(b"", sequence=1, base=5)["ok"] is False  # so that it has been served
    assert reconnected(agent, python)["run"] == {}
    python.session.send(python.shell, late)
    assert python.request("kernel_info_request", {})["content"]["status"] == "ok"
    assert not marker.exists()
    end(agent, python)


def test_an_interpreter_that_nobody_comes_for_ends():
    agent = Agent()
    try:
        python = agent.start(outlives_agent_s=0.5)
        agent._state.close()
        python.link.close()
        report = agent.report()
        assert (report["token"], report["exit"], report["signal"]) == (python.token, 0, 0)
    finally:
        agent.close()


def test_buffers_of_any_layout_are_packed():
    grid = memoryview(bytes(range(6))).cast("B", (2, 3))
    every_other = memoryview(bytes(range(4)))[::2]
    packed = b"\6\0\0\0" + bytes(range(6)) + b"\2\0\0\0" + bytes([0, 2]) + b"\0\0\0\0"
    assert frames.pack_parts([grid, every_other, b""]) == packed


def test_what_sends_arrays_of_any_layout_is_repeated(agent):
    python = agent.start(outlives_agent_s=60)
    python.start_cell(
        "import numpy as np\n"
        "from ipykernel.comm import Comm\n"
        "comm = Comm(target_name='t', buffers=[np.empty((0, 3)), np.ones((2, 3))])\n"
        "print('sent', flush=True)\n"
        "while True: pass"
    )
    while python.receive(python.iopub)["msg_type"] != "stream":
        pass
    assert reconnected(agent, python)["run"] != {}
    end(agent, python)
