"""An agent is killed: its interpreters outlive it, and its warden starts it again under them."""
import os
import signal
import time
from pathlib import Path

import pytest

from cluster import poll, process_below

NAMES = "import os\nkept = {'list': [1]}\nos.getpid()"
TICKS = """
with open({path!r}, 'a') as effects:
    effects.write('began ')
import time
for i in range(30):
    print(i, flush=True)
    time.sleep(0.1)
kept['list'].append(2)
'done'
"""


# A warden gives an agent up that was killed five times in a row, within two seconds of its start.
QUICK_S = 2
QUICK_MAX = 5


def age_of(pid):
    began = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - began / os.sysconf("SC_CLK_TCK")


def agent_below(warden):
    try:
        return process_below(warden, "nbos-agent")
    except AssertionError:
        return None


@pytest.fixture(autouse=True)
def settled(cluster):
    """What the tests before have done to the agents does not count."""
    agents = [cluster.agent_pid(row["id"]) for row in cluster.host_rows()]
    poll("the agents run for a while", lambda: all(age_of(pid) > QUICK_S for pid in agents))


def hosts_of(cluster, kernel):
    return [replica["host"] for replica in cluster.wait_replicas(kernel)["replicas"]]


def kill_executor(cluster, kernel):
    cluster.kill_agent(cluster.executor_host(kernel))


def kill_a_standby(cluster, kernel):
    executor = cluster.executor_host(kernel)
    cluster.kill_agent(next(host for host in hosts_of(cluster, kernel) if host != executor))


def kill_all(cluster, kernel):
    pids = [cluster.agent_pid(host) for host in hosts_of(cluster, kernel)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def kill_twice(cluster, kernel):
    host = cluster.executor_host(kernel)
    cluster.kill_agent(host)
    time.sleep(0.8)
    cluster.kill_agent(host)


KILLS = pytest.mark.parametrize("kill", [kill_executor, kill_a_standby, kill_all, kill_twice])


def text_of(run):
    return "".join(content["text"] for kind, content in run.outputs if kind == "stream")


@KILLS
def test_an_idle_kernel_keeps_its_process(cluster, kernel, kill):
    with cluster.connect(kernel) as conversation:
        process = conversation.execute(NAMES).text
        kill(cluster, kernel)
        after = conversation.execute("kept['list'].append(2)\nos.getpid()")
        assert (after.status, after.statuses) == ("ok", ["busy", "idle"])
        again = conversation.execute("kept['list']")
        assert again.text == "[1, 2]"
        cluster.wait_replicas(kernel)
        if kill is not kill_a_standby:
            # Leaders change, but an executor that is back is the executor.
            print("the same process:", after.text == process)


@KILLS
def test_a_running_cell_completes(cluster, kernel, kill, tmp_path):
    effects = tmp_path / "effects"
    with cluster.connect(kernel) as conversation:
        conversation.execute(NAMES)
        run = conversation.execute(TICKS.format(path=str(effects)),
                                   during=lambda run: kill(cluster, kernel))
        assert (run.status, run.statuses) == ("ok", ["busy", "idle"]), run.error
        assert text_of(run) == "".join(f"{i}\n" for i in range(30))
        assert run.outputs[-1][1]["data"]["text/plain"] == "'done'"
        assert len(run.inputs) == 1
        assert effects.read_text() == "began "
        after = conversation.execute("kept['list']")
        assert (after.text, after.count) == ("[1, 2]", run.count + 1)
        assert len({m["header"]["session"] for m in conversation.seen}) == 1
    # Replicas that followed it are equal, too.
    cluster.migrate(kernel)
    with cluster.connect(kernel) as conversation:
        assert conversation.execute("kept['list']").text == "[1, 2]"


def test_an_agent_that_keeps_dying_is_given_up_and_its_host_begins_anew(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        conversation.execute(NAMES)
        host = cluster.executor_host(kernel)
        warden = cluster.process(host)["pid"]
        for _ in range(1 + QUICK_MAX):  # the first of them has run for a while
            agent = poll(f"an agent of {host}", lambda: agent_below(warden))
            os.kill(agent, signal.SIGKILL)
            poll("it has ended", lambda pid=agent: not Path(f"/proc/{pid}").exists())
        poll("its warden has given up", lambda: cluster.process(host)["pid"] != warden, 30)
        poll("the host is back", cluster.all_hosts_up, 30)
        assert conversation.execute("kept['list']").text == "[1]"
        cluster.wait_replicas(kernel)


def test_what_is_printed_meanwhile_overtakes_nothing(cluster, kernel):
    """What was printed while no agent was there comes late: by then there is more."""
    lines = 2500
    with cluster.connect(kernel) as conversation:
        code = f"import time\nfor i in range({lines}):\n    print(i, flush=True)\n    time.sleep(0.001)"
        run = conversation.execute(code, during=lambda run: kill_all(cluster, kernel))
        assert run.status == "ok", run.error
        assert [int(line) for line in text_of(run).split()] == list(range(lines))


def test_a_cell_that_ends_without_an_agent_is_not_lost(cluster, kernel, tmp_path):
    """The agent is stopped from starting again until the cell has ended."""
    with cluster.connect(kernel) as conversation:
        conversation.execute(NAMES)
        flag = tmp_path / "ended"
        code = (f"import time, pathlib\nprint('on', flush=True)\ntime.sleep(1)\n"
                f"pathlib.Path({str(flag)!r}).touch()\nkept['list'].append(3)\nprint('off')")

        def stop_and_kill(_):
            agent = cluster.agent_pid(cluster.executor_host(kernel))
            warden = int(Path(f"/proc/{agent}/stat").read_text().rsplit(")", 1)[1].split()[1])
            os.kill(warden, signal.SIGSTOP)
            os.kill(agent, signal.SIGKILL)
            poll("the cell has ended", flag.exists, 20)
            time.sleep(0.3)
            os.kill(warden, signal.SIGCONT)

        run = conversation.execute(code, during=stop_and_kill)
        assert (run.status, text_of(run)) == ("ok", "on\noff\n")
        assert conversation.execute("kept['list']").text == "[1, 3]"


def test_a_question_is_still_answered(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        code = "print('asks', flush=True)\nname = input('who? ')\nprint('hello', name)"
        message = conversation.submit(code)
        question = conversation.wait_for(lambda m: m["header"]["msg_type"] == "input_request")
        kill_executor(cluster, kernel)
        poll("the agent is back", lambda: cluster.all_hosts_up(), 30)
        time.sleep(0.5)
        conversation.send("input_reply", {"value": "Ada", "status": "ok"}, "stdin",
                          question["header"])
        run = conversation.finish(message)
        assert run.status == "ok"
        assert "hello Ada" in run.text


def test_an_interpreter_that_dies_with_its_agent_is_lost(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        conversation.execute(NAMES)
        code = "import os\nprint('on', flush=True)\nimport time\ntime.sleep(60)"

        def kill_both(_):
            host = cluster.executor_host(kernel)
            agent = cluster.agent_pid(host)
            cluster.cli("kernel", "kill-replica", kernel)
            os.kill(agent, signal.SIGKILL)

        run = conversation.execute(code, during=kill_both, timeout=120)
        assert run.error[0] == "ExecutorLost"
        assert conversation.execute("kept['list']").text == "[1]"


def test_an_interrupt_while_the_agent_is_away_reaches_the_cell(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        conversation.execute(NAMES)

        def kill_and_interrupt(_):
            kill_executor(cluster, kernel)
            status, body = cluster.call("POST", f"/api/kernels/{kernel}/interrupt", {}, timeout=60)
            assert status == 204, body

        run = conversation.execute("import time\nprint('on', flush=True)\ntime.sleep(120)",
                                   during=kill_and_interrupt, timeout=60)
        assert run.error[0] in ("KeyboardInterrupt", "ExecutorLost"), run.error
        print("the cell ended with", run.error[0])
        assert conversation.execute("kept['list']").text == "[1]"


def test_a_kernel_deleted_while_its_agent_is_away_leaves_no_user_code(cluster, tmp_path):
    kernel = cluster.start_kernel()
    cluster.wait_replicas(kernel)
    beats = tmp_path / "beats"
    code = (f"import os, time\nprint(os.getpid(), flush=True)\nwhile True:\n"
            f"    open({str(beats)!r}, 'a').write('.')\n    time.sleep(0.1)")
    with cluster.connect(kernel) as conversation:
        conversation.submit(code)
        poll("the cell runs", beats.exists)
        kill_executor(cluster, kernel)
        cluster.cli("kernel", "delete", kernel)
    poll("the agent is back", cluster.all_hosts_up, 30)

    def silent():
        before = beats.stat().st_size
        time.sleep(0.5)
        return beats.stat().st_size == before

    began = time.monotonic()
    poll("its user code has ended", silent, 20)  # an interpreter without an agent: 45 s
    print(f"silent {time.monotonic() - began:.1f} s after the agent was back")
