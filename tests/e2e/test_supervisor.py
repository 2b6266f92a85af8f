"""`nbos up` and `nbos down`: what they leave behind, what survives, and what nobody may see."""
import os
import signal
from pathlib import Path

import pytest

from cluster import Cluster, poll


@pytest.fixture
def small(cluster_folder, request):
    cluster = Cluster(cluster_folder / request.node.name[5:25], hosts=3, token="a-secret-of-tests",
                      workspace=cluster_folder / "workspace")
    cluster.up()
    yield cluster
    cluster.down()


def process_of(pid):
    """What tells a process from a later one with the same pid; None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (pid, fields[19])


def below(pid):
    """The process and all its descendants."""
    found, wanted = [], [pid]
    while wanted:
        parent = wanted.pop()
        found.append(process_of(parent))
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            wanted += [int(child) for child in task.read_text().split()]
    return [process for process in found if process]


def everything(cluster):
    pids = [process["pid"] for process in cluster.cli("status", "--json")["processes"]]
    return [process for pid in pids for process in below(pid)]


def supervisor_pid(cluster):
    return int(Path(f"/proc/{cluster.gateway_pid()}/stat").read_text().rsplit(")", 1)[1].split()[1])


def wait_until_gone(processes):
    poll("everything has ended",
         lambda: not [one for one in processes if process_of(one[0]) == one], 30)


def value(cluster, kernel_id, code):
    with cluster.connect(kernel_id) as conversation:
        return conversation.execute(code).text


def test_down_leaves_nothing_running_and_up_brings_kernels_back(small):
    kernel_id = small.start_kernel()
    small.wait_replicas(kernel_id)
    assert value(small, kernel_id, "kept = [1, 2, 3]") == ""
    processes = everything(small)
    assert len(processes) > 4
    small.cli("down")
    wait_until_gone(processes)
    assert not (small.data / "run.json").exists()
    small.up()
    small.wait_replicas(kernel_id)
    assert value(small, kernel_id, "kept") == "[1, 2, 3]"


def test_down_ends_what_a_killed_supervisor_left(small):
    small.start_kernel()
    processes = everything(small)
    os.kill(supervisor_pid(small), signal.SIGKILL)
    status = small.cli("status", check=False)
    assert status.returncode == 1 and "nbos up" in status.stdout + status.stderr
    assert small.cli("down", check=False).returncode == 0
    wait_until_gone(processes)


def test_up_again_after_a_killed_supervisor(small):
    processes = everything(small)
    os.kill(supervisor_pid(small), signal.SIGKILL)
    small.up()
    wait_until_gone(processes)
    assert small.all_hosts_up()


def test_a_killed_host_stays_down_and_leaves_nothing(small):
    rows = {row["id"]: row for row in small.host_rows()}
    processes = below(rows["host-2"]["pid"])
    assert processes
    small.kill_host("host-2")
    wait_until_gone(processes)
    poll("the gateway sees it", lambda: not small.all_hosts_up(), 30)
    small.start_host("host-2")
    poll("it is back", small.all_hosts_up, 30)


def test_a_crashed_agent_is_started_again(small):
    rows = {row["id"]: row for row in small.host_rows()}
    os.kill(rows["host-1"]["pid"], signal.SIGKILL)

    def another():
        row = {row["id"]: row for row in small.host_rows()}["host-1"]
        return row["state"] == "up" and row["pid"] not in (0, rows["host-1"]["pid"])

    poll("host-1 runs again", another, 30)


def test_the_token_is_in_no_log_and_on_no_command_line(small):
    small.start_kernel()
    for process in everything(small):
        assert small.token.encode() not in Path(f"/proc/{process[0]}/cmdline").read_bytes()
    for log in small.data.rglob("*.log"):
        assert small.token.encode() not in log.read_bytes(), log
    assert (small.data / "token").stat().st_mode & 0o777 == 0o600
    assert small.data.stat().st_mode & 0o777 == 0o700


def test_down_twice_is_no_error(cluster_folder):
    cluster = Cluster(cluster_folder / "never")
    assert cluster.down().returncode == 0
    status = cluster.cli("status", check=False)
    assert status.returncode == 1 and "nbos up" in status.stderr


@pytest.mark.parametrize("arguments, hint", [
    (["--hosts", "0"], "--hosts"),
    (["--port", "70000"], "--port"),
    (["--workspace", "/nonexistent"], "--workspace"),
    (["--token", "with space"], "token"),
])
def test_a_bad_option_says_what_to_do(cluster_folder, arguments, hint):
    result = Cluster(cluster_folder / "bad").cli("up", "--detach", "--no-lab", *arguments,
                                                 check=False)
    assert result.returncode == 1
    assert hint in result.stderr


def test_one_damaged_host_does_not_keep_the_others_from_starting(small):
    kernel_id = small.start_kernel()
    small.wait_replicas(kernel_id)
    assert value(small, kernel_id, "kept = 1005") == ""
    small.down()
    log = small.data / "hosts" / "host-1" / "log"
    wal = sorted(log.glob("*.wal"))[0]
    content = bytearray(wal.read_bytes())
    content[200] ^= 0xFF
    wal.write_bytes(content)

    up = small.cli("up", "--detach", "--no-lab", "--port", small.port, "--token", small.token,
                   "--hosts", 3, "--workspace", small.workspace, check=False)
    assert up.returncode == 0, up.stderr
    assert "host-1" in up.stderr and "is damaged" in up.stderr and "move it away" in up.stderr
    assert value(small, kernel_id, "kept") == "1005"

    log.rename(log.with_name("damaged"))
    small.start_host("host-1")
    small.wait_replicas(kernel_id, timeout=90)
    assert value(small, kernel_id, "kept + 1") == "1006"
