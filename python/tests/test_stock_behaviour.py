"""What users of stock ipykernel see, they must see here, also after the executor has changed."""

import re

import pytest


def _plain(lines):
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))


def _follow(executor, standby, *cells):
    for code in cells:
        answer = standby.apply(executor.run(code).delta)
        assert answer["ok"], answer["error"]


DEFINE = "def divide(a, b):\n    # halves\n    return a / b"


def test_tracebacks_show_earlier_cells_after_failover(interpreters):
    executor, standby = interpreters(), interpreters()
    _follow(executor, standby, DEFINE)
    here, there = (
        _plain(python.run("divide(1, 0)").reply["content"]["traceback"]) for python in (executor, standby)
    )
    assert here == there
    assert "Cell In[1], line 3" in there or "In [1]" in there
    assert "----> 3     return a / b" in there


def test_source_of_an_earlier_cell_after_failover(interpreters):
    executor, standby = interpreters(), interpreters()
    _follow(executor, standby, DEFINE)
    assert "# halves" in standby.run("import inspect; print(inspect.getsource(divide))").text()
    reply = standby.request("inspect_request", {"code": "divide", "cursor_pos": 4, "detail_level": 1})
    assert reply["content"]["found"]


def test_out_and_underscores_after_failover(interpreters):
    executor, standby = interpreters(), interpreters()
    _follow(executor, standby, "[1]", "_.append(2); _", "7")
    assert standby.run("_, __, _1, Out[1] is _2, In[1], _i1").result() == (
        "(7, [1, 2], [1, 2], True, '[1]', '[1]')"
    )
    assert standby.run("5").result() == "5"
    assert standby.run("_").result() == "5"  # still moved by IPython, not taken as the user's


def test_weak_references_and_finalizers_are_the_users(interpreters):
    python = interpreters()
    python.run("import weakref\nclass A:\n    def __del__(self): log.append('gone')\nlog = []; a = A(); r = weakref.ref(a)")
    python.run("1")
    assert python.run("del a; r() is None, log").result() == "(True, ['gone'])"


def test_a_stand_in_says_what_is_missing(interpreters):
    executor, standby = interpreters(), interpreters()
    _follow(executor, standby, "box = {'g': (i for i in [1])}")
    content = standby.run("next(box['g'])").reply["content"]
    assert content["ename"] == "NotReplicatedError"
    assert "box['g'] (generator)" in content["evalue"]


def test_an_object_that_cannot_be_carried_fails_nothing_else(interpreters):
    executor, standby = interpreters(), interpreters()
    code = (
        "import socket\nclass Odd:\n    def __reduce__(self): raise RuntimeError('not me')\n"
        "    def __init__(self): self.s = socket.socket()\nodd = Odd(); fine = [1, odd, {'k': 2}]"
    )
    cell = executor.run(code)
    assert cell.unsupported
    assert standby.apply(cell.delta)["ok"]
    assert standby.evaluate("fine[0], fine[2]") == "(1, {'k': 2})"


def test_a_display_is_parented_to_its_cell(interpreters):
    python = interpreters()
    cell = python.run("from IPython.display import display\ndisplay('a'); print('b')\n'c'")
    kinds = [m["msg_type"] for m in cell.outputs]
    assert kinds == ["execute_input", "display_data", "stream", "execute_result"] or set(kinds) == {
        "execute_input",
        "display_data",
        "stream",
        "execute_result",
    }


def test_completion_and_is_complete(interpreters):
    python = interpreters()
    python.run("some_long_name = 1")
    reply = python.request("complete_request", {"code": "some_lo", "cursor_pos": 7})
    assert "some_long_name" in reply["content"]["matches"]
    reply = python.request("is_complete_request", {"code": "for i in x:"})
    assert reply["content"]["status"] == "incomplete"


def test_programs_see_a_notebook(interpreters):
    python = interpreters()
    code = "get_ipython().__class__.__name__, 'IPKernelApp' in get_ipython().config, __name__"
    assert python.run(code).result() == "('ZMQInteractiveShell', True, '__main__')"


def test_imports_of_submodules_are_repeated(interpreters):
    executor, standby = interpreters(), interpreters()
    _follow(executor, standby, "import xml.dom.minidom\nimport xml")
    assert standby.run("xml.dom.minidom.parseString('<a/>').documentElement.tagName").result() == "'a'"


def test_a_running_thread_is_reported_once(interpreters):
    python = interpreters()
    start = "import threading, time\nthreading.Thread(target=lambda: time.sleep(60), daemon=True).start()"
    assert any("thread" in item["path"] for item in python.run(start).unsupported)
    assert python.run("1").unsupported == []


def test_trivial_cells_have_small_deltas(interpreters):
    python = interpreters()
    python.run("big = list(range(10000)); import json")
    assert len(python.run("x = 1").delta) < 2000


@pytest.mark.parametrize("depth", [20_000])
def test_deep_structures_travel(interpreters, depth):
    executor, standby = interpreters(), interpreters()
    code = f"class N: pass\nhead = None\nfor i in range({depth}):\n    n = N(); n.next = head; head = n\ndel n"
    _follow(executor, standby, code, "head.mark = 1")
    count = "n, c = head, 0\nwhile n is not None: n, c = n.next, c + 1\nprint(c, head.mark)"
    assert standby.run(count).text() == f"{depth} 1\n"


def test_an_object_that_only_modules_share_is_carried_once(interpreters):
    executor, standby = interpreters(), interpreters()
    share = "import json, pickle, signal\nclass C:\n  def hook(self, *a): pass\njson.a = pickle.b = C(); json.a.l = [1]"
    _follow(executor, standby, share, "signal.signal(10, json.a.hook); pickle.b.l.append(2)")
    probe = "print(json.a is pickle.b, signal.getsignal(10).__self__ is json.a, json.a.l)"
    assert standby.run(probe).text() == "True True [1, 2]\n"
