"""A kernel of the cluster as a local kernel: what plain Jupyter clients do with it."""
import json
import queue
import signal
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from cluster import poll
from local_kernel import SPEC, conversation_with, local_kernel
from notebooks import EXAMPLES, differences, run_notebook
from stock import stock_kernel


@pytest.fixture
def kernel(local_kernels):
    """(manager, client)"""
    with local_kernel() as started:
        yield started


def run(client, code, timeout=60, **options):
    """(reply content, [(type, content)] of the outputs)"""
    outputs = []
    reply = client.execute_interactive(
        code, timeout=timeout, allow_stdin=False, **options,
        output_hook=lambda m: outputs.append((m["header"]["msg_type"], m["content"])))
    return reply["content"], [(kind, content) for kind, content in outputs
                              if kind not in ("status", "execute_input")]


def text_of(outputs):
    return "".join(content.get("text", "") for _, content in outputs)


# ---- unmodified clients ----

def test_nbclient_runs_a_notebook(local_kernels, tmp_path):
    notebook = nbformat.read(EXAMPLES / "08_classes_and_closures.ipynb", as_version=4)
    NotebookClient(notebook, kernel_name=SPEC, timeout=120,
                   resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert cells[3].outputs[0].data["text/plain"] == "(['#102', '#103'], 103, True)"


def test_papermill_fills_in_parameters(cluster, local_kernels, tmp_path):
    kernels = len(cluster.kernel_rows())
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_code_cell("rate = 1\nnames = []", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("[rate * len(name) for name in names]"),
        nbformat.v4.new_code_cell("import os; print(os.getcwd())")])
    nbformat.write(notebook, tmp_path / "in.ipynb")
    subprocess.run([sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb", "-k", SPEC,
                    "--no-progress-bar", "--language", "python", "-y", "{rate: 3, names: [ash, oak]}"],
                   cwd=tmp_path, check=True, timeout=180, stdin=subprocess.DEVNULL)
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert cells[2].outputs[0].data["text/plain"] == "[9, 9]"
    assert cells[3].outputs[0].text == f"{tmp_path}\n"
    assert len(cluster.kernel_rows()) == kernels, "its kernel is still there"


def test_nbconvert_executes(local_kernels, tmp_path):
    subprocess.run([sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook",
                    f"--ExecutePreprocessor.kernel_name={SPEC}", "--output-dir", tmp_path,
                    "--output", "out", EXAMPLES / "12_recursion_and_caching.ipynb"],
                   check=True, timeout=180, stdin=subprocess.DEVNULL)
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert any(cell.get("outputs") for cell in cells)


@pytest.mark.parametrize("name", ["06_exceptions", "09_input_quiz", "13_rich_display"])
def test_notebooks_give_what_stock_gives(local_kernels, name, tmp_path, monkeypatch):
    for side in ("stock", "ours"):
        (tmp_path / side).mkdir()
    with stock_kernel(tmp_path / "stock") as conversation:
        expected = run_notebook(name, conversation, tmp_path / "stock")
    monkeypatch.setenv("KERNEL_WORKING_DIR", str(tmp_path / "ours"))
    with local_kernel() as (_, client):
        actual = run_notebook(name, conversation_with(client), tmp_path / "ours")
    assert not differences(name, expected, actual), differences(name, expected, actual)


def test_jupyter_console(local_kernels, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jupyter_console", "--kernel", SPEC, "--simple-prompt",
         "--ZMQTerminalInteractiveShell.confirm_exit=False"],
        input="x = 6\nprint('got', x * 7)\nexit\n", cwd=tmp_path, text=True, capture_output=True,
        timeout=120)
    assert "got 42" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


# ---- a running cell ----

def interrupted(client, stop):
    """The reply's content of a cell that sleeps, and that `stop` was called on."""
    msg_id = client.execute("import time\nprint('on')\ntime.sleep(60)")
    while client.get_iopub_msg(timeout=30)["content"].get("text") != "on\n":
        pass
    stop()
    while True:
        reply = client.get_shell_msg(timeout=30)
        if reply["parent_header"]["msg_id"] == msg_id:
            return reply["content"]


def test_an_interrupt_reaches_the_cell(kernel):
    manager, client = kernel
    for stop in (manager.interrupt_kernel, lambda: manager.signal_kernel(signal.SIGINT)):
        content = interrupted(client, stop)
        assert (content["status"], content["ename"]) == ("error", "KeyboardInterrupt")
    assert run(client, "1 + 1")[0]["status"] == "ok"


def test_input_goes_to_whoever_runs_the_cell(kernel):
    _, client = kernel
    done = conversation_with(client).execute("print('hello', input('name? '))", answers=["Ada"])
    assert done.text == "hello Ada\n"


def test_output_comes_in_order(kernel):
    _, client = kernel
    code = "import sys\nfor i in range(2000):\n    print(i)\n    sys.stdout.flush()"
    _, outputs = run(client, code)
    assert text_of(outputs).split() == [str(i) for i in range(2000)]


def test_buffers_go_both_ways(kernel):
    _, client = kernel
    code = ("from comm import create_comm\n"
            "def echo(message):\n"
            "    c.send({'n': 2}, buffers=[bytes(b)[::-1] for b in message['buffers']])\n"
            "c = create_comm(target_name='t', data={'n': 1}, buffers=[b'\\x00\\xff\\x80'])\n"
            "c.on_msg(echo)")
    conversation = conversation_with(client)
    conversation.execute(code)
    message = client.session.msg("comm_msg", {"comm_id": "?", "data": {}})
    opened = next(m for m in conversation.seen if m["header"]["msg_type"] == "comm_open")
    message["content"]["comm_id"] = opened["content"]["comm_id"]
    sent = bytes(range(256)) * 4096
    client.session.send(client.shell_channel.socket, message, buffers=[sent, b""])
    while True:
        answer = client.get_iopub_msg(timeout=30)
        if answer["header"]["msg_type"] == "comm_msg":
            break
    assert [bytes(part) for part in answer["buffers"]] == [sent[::-1], b""]
    assert answer["parent_header"]["msg_id"] == message["header"]["msg_id"]


def test_output_has_the_topics_of_stock(kernel):
    import zmq
    _, client = kernel
    run(client, "1")
    with client.context.socket(zmq.SUB) as socket:
        socket.subscribe(b"stream.stdout")
        socket.connect(client._make_url("iopub"))

        def heard():
            run(client, "print('x')")
            return socket.poll(200)
        poll("the subscription works", heard)
        frames = socket.recv_multipart()
        assert frames[0] == b"stream.stdout"
        content = frames[frames.index(b"<IDS|MSG>") + 5]
        assert json.loads(content).get("text", "x\n") == "x\n"   # or the welcome's


# ---- restart and end ----

@pytest.mark.parametrize("now", [False, True])
def test_a_restart_gives_an_empty_namespace(cluster, kernel, now):
    manager, client = kernel
    run(client, "x = 1")
    before = {row["id"] for row in cluster.kernel_rows()}
    manager.restart_kernel(now=now)
    client.wait_for_ready(timeout=60)
    reply, _ = run(client, "x")
    assert (reply["ename"], reply["execution_count"]) == ("NameError", 1)
    assert {row["id"] for row in cluster.kernel_rows()} == before, "it is the same kernel"


def test_a_shutdown_deletes_the_kernel(cluster, local_kernels):
    before = {row["id"] for row in cluster.kernel_rows()}
    with local_kernel() as (manager, client):
        assert len({row["id"] for row in cluster.kernel_rows()} - before) == 1
        process = manager.provisioner.process
        reply = client.shutdown(reply=True, timeout=20)
        assert reply["content"] == {"status": "ok", "restart": False}
        assert process.wait(20) == 0
    assert {row["id"] for row in cluster.kernel_rows()} == before


# ---- several clients ----

def test_two_clients_share_one_kernel(kernel):
    manager, first = kernel
    second = manager.blocking_client()
    second.start_channels()
    try:
        second.wait_for_ready(timeout=60)
        run(first, "shared = 5")
        reply, outputs = run(second, "print(shared)")
        assert text_of(outputs) == "5\n" and reply["execution_count"] == 2
        heard = []
        while (message := first.get_iopub_msg(timeout=30))["content"].get(
                "execution_state") != "idle" or not heard:
            if message["header"]["msg_type"] == "stream":
                heard.append(message["content"]["text"])
        assert heard == ["5\n"]
        with pytest.raises(queue.Empty):
            while True:   # the second one's reply is not for the first
                stray = first.get_shell_msg(timeout=0.5)
                assert stray["parent_header"]["session"] == first.session.session
        done = conversation_with(second).execute("print(input())", answers=["mine"])
        assert done.text == "mine\n"
        with pytest.raises(queue.Empty):
            first.get_stdin_msg(timeout=0.2)
    finally:
        second.stop_channels()
