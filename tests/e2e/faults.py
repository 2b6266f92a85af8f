"""What may go wrong on a cluster of netns.py: each fault strikes one host (or the gateway, or all
agents), for a time or until it is healed, and says what design section 6 promises for it.
"""
import contextlib
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

from cluster import poll

COMPLETES, LOST = "completes", "ExecutorLost"
CGROUPS = Path("/sys/fs/cgroup/memory")
OOM_LIMIT = 48 << 20
DISK_LEFT = 1 << 20
SEGMENT_HEADER, BATCH_HEADER = 48, 32  # docs/reference/wal-format.md
REFUSED_IN_S = 60


class Fault:
    name = ""
    duration = 0.0        # heals by itself after so many seconds; 0: when the drill heals it
    silent = False        # others cannot tell it from a slow network: it has the grace
    host_dies = False     # its replica is made anew elsewhere before the fault is healed
    cuts_clients = False  # they have to connect again
    running = {COMPLETES}  # the allowed ends of the cell that was running there
    commit = {COMPLETES}   # and of one whose code had ended
    bites_late = False    # when something large is written: the next cell does

    def why_not(self):
        return ""

    def prepare(self, cluster, host, kernel_id):
        """What takes time and harms nobody yet."""

    def strike(self, cluster, host, kernel_id):
        raise NotImplementedError

    def follow(self, cluster, host):
        """What belongs to the fault and comes after its first moment."""

    def heal(self, cluster, host):
        """Called once, also when the drill has failed."""


class InterpreterKilled(Fault):
    name = "interpreter SIGKILL"
    running = {LOST}
    commit = {COMPLETES, LOST}

    def prepare(self, cluster, host, kernel_id):
        self._pid = poll("the interpreter has a process",
                         lambda: cluster.interpreter_pid(kernel_id, host), 30, 0.02)

    def strike(self, cluster, host, kernel_id):
        os.kill(self._pid, signal.SIGKILL)
        self._await_notice(cluster, host, kernel_id)

    def _await_notice(self, cluster, host, kernel_id):
        """A cell that comes before may have begun in it, as far as its agent can tell."""
        poll("the agent has noticed",
             lambda: cluster.interpreter_pid(kernel_id, host) != self._pid, 5, 0.001)


class OutOfMemory(InterpreterKilled):
    """The kernel's own killer, in a memory cgroup that a second process fills."""
    name = "out of memory"
    _group = _eater = None

    def why_not(self):
        return "" if (CGROUPS / "memory.limit_in_bytes").exists() else \
            f"no memory cgroup (version 1) at {CGROUPS}"

    def prepare(self, cluster, host, kernel_id):
        super().prepare(cluster, host, kernel_id)
        for left in CGROUPS.glob("nbos-drill-*"):  # by a run that was killed
            if not Path(f"/proc/{left.name.rsplit('-', 1)[1]}").exists():
                left.rmdir()
        self._group = CGROUPS / f"nbos-drill-{os.getpid()}"
        self._group.mkdir()
        (self._group / "memory.limit_in_bytes").write_text(str(OOM_LIMIT))
        Path(f"/proc/{self._pid}/oom_score_adj").write_text("1000")  # before the one that eats
        self._eater = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.readline()\n"
             f"eaten = [bytes([1]) * (1 << 20) for _ in range({2 * OOM_LIMIT >> 20})]"],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        (self._group / "cgroup.procs").write_text(str(self._eater.pid))

    def strike(self, cluster, host, kernel_id):
        (self._group / "cgroup.procs").write_text(str(self._pid))
        self._eater.stdin.write(b"\n")
        self._eater.stdin.close()
        self._eater.wait(30)
        kills = (self._group / "memory.oom_control").read_text()
        assert "oom_kill 0" not in kills, f"nobody was killed: {kills}"
        assert not Path(f"/proc/{self._pid}").exists() or zombie(self._pid), "it survived"
        self._await_notice(cluster, host, kernel_id)

    def heal(self, cluster, host):
        if self._eater is not None:
            self._eater.kill()
            self._eater.wait()
        if self._group is not None:
            poll("the cgroup is empty", lambda: not (self._group / "cgroup.procs").read_text(), 10)
            self._group.rmdir()


def zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


class AgentKilled(Fault):
    name = "agent SIGKILL"

    def strike(self, cluster, host, kernel_id):
        os.kill(cluster.agent_pid(host), signal.SIGKILL)


class AllAgentsKilled(Fault):
    name = "all agents SIGKILL"

    def strike(self, cluster, host, kernel_id):
        pids = [cluster.agent_pid(other) for other in cluster.machines]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


class AgentStopped(Fault):
    name = "agent SIGSTOP 10 s"
    duration = 10.0
    silent = True
    _pid = None

    def strike(self, cluster, host, kernel_id):
        self._pid = cluster.agent_pid(host)
        os.kill(self._pid, signal.SIGSTOP)

    def heal(self, cluster, host):
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGCONT)


class PowerOff(Fault):
    name = "host power-off"
    host_dies = True
    running = {LOST}
    commit = {COMPLETES, LOST}

    def strike(self, cluster, host, kernel_id):
        cluster.kill_host(host)

    def heal(self, cluster, host):
        if not cluster.machines[host].runs():
            cluster.start_host(host)


class Cut(Fault):
    silent = True

    def __init__(self, seconds, *directions):
        self.directions = directions or ("in", "out")
        self.duration = float(seconds)
        what = f"one-way cut ({directions[0]})" if directions else "cut"
        self.name = f"{what} {seconds} s"
        if seconds > 30:  # the grace
            self.host_dies = True
            self.running = {LOST}
            self.commit = {COMPLETES, LOST}

    def strike(self, cluster, host, kernel_id):
        cluster.machines[host].cut(*self.directions)

    def heal(self, cluster, host):
        cluster.machines[host].heal()


class GatewayKilled(Fault):
    name = "gateway SIGKILL"
    cuts_clients = True

    def strike(self, cluster, host, kernel_id):
        before = cluster.gateway_pid()
        os.kill(before, signal.SIGKILL)
        poll("the gateway was started again", lambda: cluster.gateway_pid() != before, 10, 0.01)


class DiskFull(Fault):
    """The log has a little room left in its segment: the next large write finds the end."""
    name = "log disk full"
    host_dies = True
    running = {COMPLETES, LOST}
    commit = {COMPLETES, LOST}
    bites_late = True

    def strike(self, cluster, host, kernel_id):
        # What kernels of earlier drills leave is freed in the background.
        poll("the disk stays full", lambda: self._stays_full(cluster.machines[host]), 30, 0)

    @staticmethod
    def _stays_full(machine):
        machine.fill_disk(DISK_LEFT)
        time.sleep(1.5)
        return machine.free_bytes() <= 2 * DISK_LEFT

    def follow(self, cluster, host):
        if cluster.machines[host].runs():
            cluster.machines[host].fill_disk(DISK_LEFT)

    def heal(self, cluster, host):
        machine = cluster.machines[host]
        machine.free_disk()
        if not machine.runs():
            cluster.start_host(host)


class LogDamaged(PowerOff):
    """A power cut that leaves a flipped byte, in a place that was durable long ago. The host must
    refuse to start, naming the file; it is put right as its message says: start without."""
    name = "chunk file corrupted"

    def follow(self, cluster, host):
        machine = cluster.machines[host]
        flip_a_byte(machine.disk / "log")
        began = machine.log.stat().st_size
        cluster.start_host(host)
        machine.process.wait(REFUSED_IN_S)
        said = machine.log.read_bytes()[began:].decode()
        assert machine.process.returncode != 0 and "is damaged at offset" in said, said
        assert "made anew from those of other hosts" in said, said

    def heal(self, cluster, host):
        machine = cluster.machines[host]
        if not machine.runs() and (machine.disk / "log").exists():
            os.rename(machine.disk / "log", machine.disk / f"log-damaged-{time.monotonic_ns()}")
        super().heal(cluster, host)


class LogTorn(PowerOff):
    """A power cut in the middle of a write: the last batch is cut off, and nothing is missed."""
    name = "log tail torn"

    def follow(self, cluster, host):
        tear_the_tail(cluster.machines[host].disk / "log")


def segments(log):
    return sorted(log.glob("*.wal"))


def batches(data):
    """(offset, bytes with header and padding) of each batch of a segment."""
    at = SEGMENT_HEADER
    while data[at:at + 4] == b"NBHC":
        size = BATCH_HEADER + struct.unpack_from("<I", data, at + 4)[0]
        yield at, size
        at += -(-size // 8) * 8


def flip_a_byte(log):
    """In the largest snapshot, or the first batch of the oldest segment: never at the end."""
    snapshots = sorted(log.glob("*.snap"), key=lambda path: path.stat().st_size)
    if snapshots:
        target, offset = snapshots[-1], snapshots[-1].stat().st_size // 2
    else:
        target, offset = segments(log)[0], SEGMENT_HEADER + BATCH_HEADER + 2
    with open(target, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x10]))


def tear_the_tail(log):
    newest = segments(log)[-1]
    found = list(batches(newest.read_bytes()))
    assert found, "nothing was written"
    at, size = found[-1]
    with open(newest, "r+b") as file:
        file.seek(at + size // 2)
        file.write(b"\0" * (size - size // 2))
