"""A cell that says more than anybody takes waits for them: bounded, complete, and to be interrupted."""

import os
import re
import select
import signal
from pathlib import Path

import zmq

from nbos_kernel.outflow import PIECE_CHARS, pieces

MIB = 1 << 20
PRINTS = "line = 'x' * 1023 + '\\n'\nfor n in range({mib}): print(f'<{{n}}>' + line * 1024, end='')"


def _peak_mib(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) >> 10


def _read_slowly(python):
    """Another socket for outputs, which takes few messages ahead of its reader."""
    python.iopub.close()
    python.iopub = python.agent.context.socket(zmq.SUB)
    python.iopub.rcvhwm = 2
    python.iopub.connect(f"ipc://{python.directory}/iopub")
    python.iopub.subscribe(b"")
    while not python.iopub.poll(20):
        python.request("kernel_info_request", {}, sock=python.control)
    python.drain_iopub()


def _streams(python, until_idle_of):
    """The texts of all stream messages, until that cell is idle."""
    while True:
        message = python.receive(python.iopub)
        if message["parent_header"].get("msg_id") != until_idle_of:
            continue
        if message["msg_type"] == "stream":
            yield message["content"]["text"]
        elif message["content"].get("execution_state") == "idle":
            return


def _says_nothing(python, seconds):
    return not select.select([python.link], [], [], seconds)[0]


def test_printing_waits_for_the_reader_and_loses_nothing(interpreters):
    python = interpreters()
    _read_slowly(python)
    python.run("1")
    before = _peak_mib(python.pid)
    cell = python.start_cell(PRINTS.format(mib=300))
    assert _says_nothing(python, 2.0), "the cell ended, and nobody has read what it printed"
    grown = _peak_mib(python.pid) - before
    texts = list(_streams(python, cell))
    print(f"300 MiB printed: the interpreter grew by {grown} MiB while nobody read, "
          f"{_peak_mib(python.pid) - before} MiB in all")
    assert _peak_mib(python.pid) - before < 100
    assert max(map(len, texts)) <= PIECE_CHARS
    text = "".join(texts)
    assert re.findall(r"<(\d+)>", text) == [str(n) for n in range(300)]
    assert len(text) == 300 * MIB + sum(len(f"<{n}>") for n in range(300))
    assert python.receive(python.shell)["content"]["status"] == "ok"


def test_displays_wait_for_the_reader_and_none_is_lost(interpreters):
    python = interpreters()
    _read_slowly(python)
    python.run("from IPython.display import display, Pretty\ntext = 'x' * 100_000")
    before = _peak_mib(python.pid)
    cell = python.start_cell("for n in range(2000): display({'text/plain': f'{n} {text}'}, raw=True)")
    assert _says_nothing(python, 2.0)
    numbers = []
    while True:
        message = python.receive(python.iopub)
        if message["parent_header"].get("msg_id") == cell:
            if message["msg_type"] == "display_data":
                numbers.append(int(message["content"]["data"]["text/plain"].split()[0]))
            elif message["content"].get("execution_state") == "idle":
                break
    assert numbers == list(range(2000))
    assert _peak_mib(python.pid) - before < 100


def test_code_that_waits_for_the_reader_can_be_interrupted(interpreters):
    python = interpreters()
    _read_slowly(python)
    python.run("import os")
    cell = python.start_cell("while True: print('x' * 100_000)")
    assert _says_nothing(python, 1.0)
    os.kill(python.pid, signal.SIGINT)
    texts = list(_streams(python, cell))
    assert sum(map(len, texts)) < 100 * MIB
    reply = python.receive(python.shell)
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert python.expect(8)[1]["error"] is None
    python.sequence += 1
    assert python.run("'usable'").result() == "'usable'"


def test_ordinary_prints_are_messages_as_of_stock(interpreters):
    python = interpreters()
    out = python.run("print('a')\nprint('b')\nimport sys; print('c', file=sys.stderr)").outputs
    streams = [m["content"] for m in out if m["msg_type"] == "stream"]
    assert streams == [{"name": "stdout", "text": "a\nb\n"}, {"name": "stderr", "text": "c\n"}]


def test_what_an_interrupt_left_counted_is_forgotten(interpreters):
    python = interpreters()
    python.run(
        "import gc; from nbos_kernel.outflow import Outflow\n"
        "[one for one in gc.get_objects() if type(one) is Outflow][0]._bytes += 1 << 30"
    )
    assert python.run("print('on')\n2").result() == "2"


def test_pieces():
    assert list(pieces("")) == [""]
    line = "a" * 99 + "\n"
    long = line * 10_000 + "b" * (2 * PIECE_CHARS) + "\n"
    parts = list(pieces(long))
    assert "".join(parts) == long and max(map(len, parts)) <= PIECE_CHARS
    assert all(part.endswith("\n") for part in parts[:3])
