"""A NotebookOS cluster of processes on this machine, driven through `nbos` as a user would."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from conversation import WsConversation
from stock import Rest, free_port

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("NBOS_BIN", str(ROOT / "nbos"))


class CommandFailed(AssertionError):
    def __init__(self, command, result):
        super().__init__(f"{' '.join(command)} ended with {result.returncode}\n"
                         f"{result.stdout}\n{result.stderr}")
        self.result = result


def poll(what, condition, timeout=60, every=0.1):
    """Waits until `condition()` is true and returns what it gave; `what` names it in the error."""
    end = time.monotonic() + timeout
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise TimeoutError(f"still not so after {timeout} s: {what}; last: {got!r}")
        time.sleep(every)


def below(pid):
    """The process and all its descendants that are there at this moment."""
    found, wanted = [], [pid]
    while wanted:
        found.append(wanted.pop())
        for task in Path(f"/proc/{found[-1]}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                wanted += [int(child) for child in task.read_text().split()]
    return found


def process_below(pid, name):
    for found in below(pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{found}/comm").read_text().strip() == name:
                return found
    raise AssertionError(f"no {name} runs below process {pid}")


class Cluster(Rest):
    def __init__(self, data, hosts=4, token="e2e-token", lab=False, workspace=None,
                 parked_for="0", gateways=1, options=()):
        self.data = Path(data)
        self.workspace = workspace
        self.hosts = hosts
        self.lab = lab
        self.gateways = gateways
        self.options = options          # further ones of `nbos up`
        self.parked_for = parked_for    # tests make many kernels: what is deleted goes at once
        super().__init__(f"http://127.0.0.1:{free_port()}", token)

    @property
    def port(self):
        return int(self.url.rsplit(":", 1)[1])

    def cli(self, *arguments, timeout=120, check=True):
        """`nbos ... --data DIR`; returns the decoded JSON when --json was asked for."""
        command = [BINARY, *map(str, arguments), "--data", str(self.data)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout,
                                stdin=subprocess.DEVNULL)
        if not check:
            return result
        if result.returncode:
            raise CommandFailed(command, result)
        return json.loads(result.stdout) if "--json" in arguments else result.stdout

    def up(self, timeout=300):
        arguments = ["up", "--detach", "--port", self.port, "--token", self.token,
                     "--hosts", self.hosts, "--parked-for", self.parked_for,
                     "--gateways", self.gateways, *self.options]
        if self.workspace is not None:
            Path(self.workspace).mkdir(parents=True, exist_ok=True)
            arguments += ["--workspace", self.workspace]
        self.said = self.cli(*arguments, *([] if self.lab else ["--no-lab"]), timeout=timeout)
        return self

    def down(self):
        return self.cli("down", check=False)

    # ---- what the cluster says of itself ----

    def kernel_rows(self):
        return self.cli("kernel", "list", "--json")

    def kernel_row(self, kernel_id):
        for row in self.kernel_rows():
            if row["id"] == kernel_id:
                return row
        return None

    def host_rows(self):
        return self.cli("host", "list", "--json")["hosts"]

    def all_hosts_up(self):
        return all(row["state"] == "up" for row in self.host_rows())

    def executor_host(self, kernel_id):
        """The host whose replica runs the cells: the last executor, or who would be the first."""
        return poll("the kernel has an executor",
                    lambda: (self.kernel_row(kernel_id) or {}).get("owner_host"), 30)

    def wait_replicas(self, kernel_id, count=3, timeout=60, without=()):
        """Until `count` replicas vote and are ready, none of them on a host of `without`."""
        def ready():
            row = self.kernel_row(kernel_id) or {"replicas": [], "repair": ""}
            good = [replica for replica in row["replicas"]
                    if replica["up"] and replica["member"] == "voter"
                    and replica["interpreter"] in ("ready", "running")
                    and replica["host"] not in without]
            return row if len(good) == count == len(row["replicas"]) else None
        return poll(f"{count} replicas of {kernel_id} are ready", ready, timeout, 0.2)

    def migrate(self, kernel_id):
        """Makes another replica the executor; returns its host."""
        row = self.wait_replicas(kernel_id)
        hosts = [replica["host"] for replica in row["replicas"]]
        target = hosts[(hosts.index(row["owner_host"]) + 1) % len(hosts)]
        self.cli("kernel", "migrate", kernel_id, "--to", target)
        return target

    # ---- trouble, and kernels ----

    def kill_host(self, host):
        self.cli("host", "kill", host)

    def start_host(self, host):
        self.cli("host", "start", host)

    def agent_pid(self, host):
        """The agent's own process, which its warden starts again when it is killed."""
        processes = self.cli("status", "--json")["processes"]
        return process_below(next(process["pid"] for process in processes
                                  if process["name"] == host), "nbos-agent")

    def kill_agent(self, host):
        os.kill(self.agent_pid(host), signal.SIGKILL)

    def process(self, name):
        """Also while no gateway answers."""
        processes = json.loads(self.cli("status", "--json", check=False).stdout)["processes"]
        return next(process for process in processes if process["name"] == name)

    def gateway_pid(self, name="gateway"):
        return self.process(name)["pid"]

    def kill_gateway(self, name="gateway"):
        os.kill(self.gateway_pid(name), signal.SIGKILL)

    def gateway_url(self, name):
        return "http://" + self.process(name)["address"]

    def connect(self, kernel_id, **options):
        return WsConversation(self.url, kernel_id, self.token, **options)

    def forget(self, kernel_id):
        self.call("DELETE", f"/api/kernels/{kernel_id}")

    def keep_logs(self, folder):
        """Copies the logs of all processes to where a failed test run can be read."""
        for path in self.data.rglob("*.log"):
            target = Path(folder) / path.relative_to(self.data)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
