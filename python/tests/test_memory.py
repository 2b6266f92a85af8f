"""A kernel with a limit of memory: running out of it has a name, and the kernel goes on."""

import signal

import pytest

from agent_side import Agent

LIMIT = 500


@pytest.fixture(scope="module")
def limited_agent():
    agent = Agent(arguments=("--memory-mib", str(LIMIT)))
    yield agent
    agent.close()


@pytest.fixture
def limited(limited_agent):
    python = limited_agent.start()
    yield python
    python.close()
    while limited_agent.report()["pid"] != python.pid:
        pass


def _plain(cell):
    return "\n".join(cell.reply["content"]["traceback"])


def test_user_code_gets_an_error_that_names_the_limit(limited):
    python = limited
    python.run("kept = [1, 2]")
    cell = python.run("everything = []\nwhile True: everything.append(bytes([1]) * (1 << 20))")
    content = cell.reply["content"]
    assert (content["status"], content["ename"]) == ("error", "MemoryError")
    assert content["evalue"] == f"the kernel ran out of memory (limit {LIMIT} MiB)"
    assert f"(limit {LIMIT} MiB)" in _plain(cell)
    assert cell.header["error"] is None, "what the cell has done is saved"
    assert python.run("len(everything) > 50, kept").result() == "(True, [1, 2])"
    assert python.run("del everything\nlarge = bytes([1]) * (50 << 20)\nlen(large)").result() == str(50 << 20)


def test_numpy_says_it_too(limited):
    pytest.importorskip("numpy")
    python = limited
    cell = python.run("import numpy\na = numpy.ones(1 << 30)")
    assert cell.reply["content"]["ename"] in ("MemoryError", "_ArrayMemoryError")
    assert python.run("1 + 1").result() == "2"


def test_the_limit_is_lifted_while_a_cell_is_saved(limited):
    python = limited
    cell = python.run("large = bytes([1]) * (250 << 20)")  # saving it takes as much again
    assert cell.header["error"] is None and len(cell.delta) > 250 << 20


def test_without_a_limit_nothing_is_limited(interpreters):
    python = interpreters()
    code = "import resource; resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY"
    assert python.run(code).result() == "True"


@pytest.mark.parametrize("mib, named", [(LIMIT - 150, True), (1, False)])
def test_a_death_near_the_limit_is_named(limited_agent, mib, named):
    python = limited_agent.start()
    python.start_cell(f"import os\nlarge = bytes([1]) * ({mib} << 20)\nos.abort()")
    report = limited_agent.report()
    assert (report["pid"], report["signal"]) == (python.pid, signal.SIGABRT)
    assert ("why" in report) == named, report


def test_the_deaths_that_the_zygote_names(monkeypatch):
    from nbos_kernel import memory

    kills = 5
    monkeypatch.setattr(memory, "_killed_by_system", lambda: kills)
    monkeypatch.setattr(memory, "_limit_mib", LIMIT)
    deaths = memory.Deaths()
    assert deaths.why(signal.SIGKILL, LIMIT << 10) is None  # by hand
    assert "(limit 500 MiB): it was killed by SIGABRT" in deaths.why(signal.SIGABRT, LIMIT << 10)
    assert deaths.why(signal.SIGABRT, LIMIT << 9) is None
    kills = 6
    assert "ran out of memory (limit 500 MiB): the system killed it" in deaths.why(signal.SIGKILL, 0)
    assert deaths.why(signal.SIGKILL, 0) is None
    monkeypatch.setattr(memory, "_limit_mib", 0)
    kills = 7
    assert "ran out of memory (all that the system has)" in deaths.why(signal.SIGKILL, 0)
