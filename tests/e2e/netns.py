"""A cluster whose hosts and gateway are machines of their own: each has a network namespace on one
bridge, a host name and a disk, and each boot of a host is a pid namespace, so that a power cut ends
all its processes at once. The programs are `nbos agent` and `nbos gateway`, with what `nbos up`
makes for them: certificates, a list of hosts, a token.

Nothing has a name that outlives it. A machine is what its holder process holds; the holder ends
with the test's process (also when that is killed), and the kernel then takes namespaces, mounts,
loop devices and processes away.
"""
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

from cluster import BINARY, ROOT, Cluster, below, poll, process_below

TOOLS = ("ip", "mkfs.ext4", "mount", "nft", "nsenter", "setpriv", "unshare")
DISK_BYTES = 6 << 30  # sparse; the log keeps segments of 64 MiB
AGENT_PORT = 7000
GATEWAY_PORT = 8888
RESTART_PAUSE_S = 0.2  # that of the supervisor
CUTS = {"in": "chain i { type filter hook input priority 0\n iifname \"eth0\" drop\n }\n",
        "out": "chain o { type filter hook output priority 0\n oifname \"eth0\" drop\n }\n"}

_libc = ctypes.CDLL(None, use_errno=True)


def why_not():
    """What this machine lacks for namespaces, or "" when nothing."""
    if os.geteuid() != 0:
        return "network namespaces and mounts need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def run(*command, text=None):
    done = subprocess.run([str(word) for word in command], input=text, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def enter_network(descriptor):
    """The calling thread opens its sockets there from now on."""
    if _libc.setns(descriptor, 0x40000000):
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


def pids_of(pid):
    """The process's ids, from this namespace's inwards; [None] when it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return [int(word) for word in line.split()[1:]]
    return [None]


class Machine:
    """A server: its network, host name and disk stay when its processes are gone."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = Path(folder)
        self.log = self.folder / f"{name}.log"
        self.process = None
        (self.folder / "tmp").mkdir(parents=True)
        (self.folder / "disk").mkdir()
        image = self.folder / "disk.img"
        with open(image, "wb") as file:
            file.truncate(DISK_BYTES)
        run("mkfs.ext4", "-q", "-F", "-m", "0", image)
        script = f"hostname {name} && mount -o loop {image} {self.folder}/disk && echo && exec cat"
        self.holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--uts",
             "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.holder.stdout.readline() == b"\n", f"{name} cannot be set up"

    def inside(self, *command, text=None):
        """Runs a program in the machine's network."""
        return run("nsenter", "-t", self.holder.pid, "-n", *command, text=text)

    @property
    def disk(self):
        """As seen from here: it is mounted on the machine only."""
        return Path(f"/proc/{self.holder.pid}/root{self.folder}/disk")

    def boot(self, *command, **environment):
        """Starts a program as the first process of a pid namespace."""
        assert not self.runs(), f"{self.name} runs already"
        for old in (self.folder / "tmp").iterdir():  # as a boot empties /tmp
            shutil.rmtree(old)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "nsenter", "-t", str(self.holder.pid), "-n",
                 "-m", "-u", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
                 *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "TMPDIR": str(self.folder / "tmp"), **environment})

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def first_process(self):
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
                   .read_text().split()[0])

    def power_off(self):
        if self.runs():
            with contextlib.suppress(IndexError, OSError):  # it is going down by itself
                os.kill(self.first_process(), signal.SIGKILL)
            self.process.wait(10)  # it returns when the whole namespace has ended

    def end(self):
        self.power_off()
        self.holder.kill()
        self.holder.wait()
        self.holder.stdin.close()
        self.holder.stdout.close()

    # ---- trouble ----

    def cut(self, *directions):
        rules = "".join(CUTS[direction] for direction in directions)
        self.inside("nft", "-f", "-", text=f"table inet cut {{\n{rules}}}\n")

    def heal(self):
        self.inside("nft", "flush", "ruleset")

    def fill_disk(self, left):
        """Leaves so many bytes free."""
        size = self.free_bytes() - left
        if size > 0:
            with open(self.disk / "filler", "ab") as file:
                os.posix_fallocate(file.fileno(), file.tell(), size)

    def free_bytes(self):
        state = os.statvfs(self.disk)
        return state.f_bavail * state.f_frsize

    def free_disk(self):
        (self.disk / "filler").unlink(missing_ok=True)


class ServiceManager:
    """Starts a gateway again that has ended, as systemd would."""

    def __init__(self, start):
        self._start = start
        self._stopping = threading.Event()
        self._up = threading.Event()
        self.process = None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self._up.wait(10)

    def _watch(self):
        while not self._stopping.is_set():
            self.process = self._start()  # ends with this thread, see setpriv
            self._up.set()
            self.process.wait()
            self._stopping.wait(RESTART_PAUSE_S)

    def stop(self):
        self._stopping.set()
        self.process.kill()
        self._thread.join(10)


class NetnsCluster(Cluster):
    def __init__(self, folder, hosts=4):
        super().__init__(folder, hosts)
        self.url = f"http://10.77.0.2:{GATEWAY_PORT}"
        self.machines = {}  # the hosts
        self._ends = contextlib.ExitStack()

    # ---- building it ----

    def up(self, timeout=60):
        self.data.mkdir(parents=True)
        self._take_what_nbos_up_makes()
        self._hub = self._machine("hub")
        self._hub.inside("ip", "link", "add", "br0", "type", "bridge")
        self._hub.inside("ip", "addr", "add", "10.77.0.1/24", "dev", "br0")
        self._hub.inside("ip", "link", "set", "br0", "up")
        self._gateway_machine = self._machine("gateway", "10.77.0.2")
        addresses = {}
        for number in range(1, self.hosts + 1):
            name, address = f"host-{number}", f"10.77.0.{10 + number}"
            self.machines[name] = self._machine(name, address)
            addresses[name] = f"{address}:{AGENT_PORT}"
        (self.data / "hosts.json").write_text(json.dumps({"hosts": addresses}))
        self.addresses = addresses
        for host in self.machines:
            self.start_host(host)
        self.services = ServiceManager(self._start_gateway)
        self._ends.callback(self.services.stop)
        poll("all hosts are up", self.all_hosts_up, timeout)
        return self

    def down(self):
        self._ends.close()

    def _take_what_nbos_up_makes(self):
        """Only the supervisor makes an authority: let it start and stop such a cluster."""
        made = Cluster(self.data / "made", hosts=self.hosts, token=self.token)
        made.up()
        made.down()
        for name in ("gateway-1", *(f"host-{number}" for number in range(1, self.hosts + 1))):
            own = self.data / "pki" / name  # nobody has another's key
            own.mkdir(parents=True, mode=0o700)
            for file in ("authority.pem", f"{name}.pem", f"{name}-key.pem"):
                shutil.copy(made.data / "pki" / file, own)
        shutil.copy(made.data / "token", self.data / "token")

    def _machine(self, name, address=None):
        machine = Machine(name, self.data / name)
        self._ends.callback(machine.end)
        if address:
            self._hub.inside("ip", "link", "add", name, "master", "br0", "type", "veth", "peer",
                             "name", "eth0", "netns", machine.holder.pid)
            self._hub.inside("ip", "link", "set", name, "up")
            machine.inside("ip", "addr", "add", f"{address}/24", "dev", "eth0")
            machine.inside("ip", "link", "set", "lo", "up")
            machine.inside("ip", "link", "set", "eth0", "up")
        return machine

    def _start_gateway(self):
        machine = self._gateway_machine
        with open(machine.log, "ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "nsenter", "-t", str(machine.holder.pid), "-n",
                 BINARY, "gateway", "--listen", f"10.77.0.2:{GATEWAY_PORT}",
                 "--pki", str(self.data / "pki/gateway-1"),
                 "--hosts", str(self.data / "hosts.json"), "--token-file",
                 str(self.data / "token"), "--workspace", str(self.data)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    # ---- what the cluster says of itself ----

    @contextlib.contextmanager
    def network(self):
        """The calling thread is a client's machine: what it connects goes over the bridge."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        bridge = os.open(f"/proc/{self._hub.holder.pid}/ns/net", os.O_RDONLY)
        try:
            enter_network(bridge)
            yield
        finally:
            enter_network(home)
            os.close(home)
            os.close(bridge)

    def call(self, *arguments, **options):
        with self.network():
            return super().call(*arguments, **options)

    def connect(self, kernel_id, **options):
        with self.network():
            return super().connect(kernel_id, **options)

    def rows(self, path):
        """[] while the gateway cannot say."""
        try:
            status, body = self.call("GET", f"/api/nbos/{path}", timeout=5)
        except OSError:
            return []
        return body if status == 200 else []

    def kernel_rows(self):
        return self.rows("kernels")

    def host_rows(self):
        return self.rows("hosts")

    def all_hosts_up(self):
        rows = self.host_rows()
        return len(rows) == self.hosts and all(row["state"] == "up" for row in rows)

    def order_migration(self, kernel_id, host):
        return self.call("POST", f"/api/nbos/kernels/{kernel_id}/migrate", {"to": host}, timeout=90)

    def migrate(self, kernel_id):
        row = self.wait_replicas(kernel_id)
        hosts = [replica["host"] for replica in row["replicas"]]
        target = hosts[(hosts.index(row["owner_host"]) + 1) % len(hosts)]
        status, body = self.order_migration(kernel_id, target)
        assert status == 200, body
        return target

    # ---- trouble ----

    def kill_host(self, host):
        self.machines[host].power_off()

    def start_host(self, host):
        machine = self.machines[host]
        machine.boot(BINARY, "agent", "--host", host, "--listen", self.addresses[host],
                     "--data", machine.folder / "disk", "--pki", self.data / "pki" / host,
                     "--hosts", self.data / "hosts.json", "--python", ROOT / ".venv/bin/python",
                     "--workspace", self.data)

    def agent_pid(self, host):
        return process_below(self.machines[host].process.pid, "nbos-agent")

    def gateway_pid(self):
        return self.services.process.pid

    def interpreter_pid(self, kernel_id, host):
        """The process as seen from here, of the interpreter that a kernel has on a host."""
        machine = self.machines[host]
        for owner in (machine.folder / "tmp").glob("nbos-*/*/owner.json"):
            try:
                told = json.loads(owner.read_text())
            except (OSError, ValueError):  # it is being written, or is gone
                continue
            if told["kernel"] == kernel_id:
                return next((pid for pid in below(machine.process.pid)
                             if pids_of(pid)[-1] == told["pid"]), None)
        return None


@contextlib.contextmanager
def running(folder, logs):
    """A cluster below `folder` that is up; its logs are kept in `logs`, whatever happens."""
    cluster = NetnsCluster(folder)
    try:
        yield cluster.up()
    finally:
        cluster.keep_logs(logs)
        cluster.down()
