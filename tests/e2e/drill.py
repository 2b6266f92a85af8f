"""One drill: a kernel under work, a fault at a chosen moment, and what must be so afterwards.

Two clients hold the kernel; a third one works on another kernel, which must not be harmed. Every
cell appends its number to a list of the kernel and writes it to a file, so that the end shows which
cells had an effect, how often their code began, and on which host. What was acknowledged is looked
up at the end on two executors.
"""
import contextlib
import threading
import time
from dataclasses import dataclass, field

from cluster import poll
from faults import COMPLETES, LOST
from recorder import Recorder

GRACE_S = 30.0          # a silent executor keeps its cell so long
AIM_LEADER_S = 2.0
AIM_CELL_S = 5.0
FAILS_BEYOND = 4        # times the aim
LINES = 60              # of the running cell, ten a second
LINES_PAST_GRACE = 900  # of one that must be stopped
STATE_BYTES = 120_000_000
WRITES_TO_FULL = 5       # of STATE_BYTES, two spare segments of 64 MiB and what is freed meanwhile
CELL_LIMIT_S = 150

SETUP = """
import os, socket, time
log = []
def note(name, text):
    with open(os.path.join({folder!r}, name), 'a') as file:
        file.write(text + '\\n')
"""
CELL = """
note('began', '{number}')
log.append({number})
print(socket.gethostname(), {number}, 0, flush=True)
"""
RUNNING = CELL + """
for i in range(1, {lines}):
    time.sleep(0.1)
    note('beats', '{number}')
    print(socket.gethostname(), {number}, i, flush=True)
"""
LARGE = CELL + "large_{number} = os.urandom({bytes})\nnote('ended', '{number}')\n"


@dataclass
class Pauses:
    """Seconds; None where the drill has none."""
    leader: float = None  # from the fault to a leader of a later term
    told: float = None    # from the fault to the ExecutorLost of the cell that ran
    cell: float = None    # from the fault, or the end of that cell, to the next cell's reply


@dataclass
class Outcome:
    running: str = ""     # how the cell that ran at the fault has ended
    pauses: Pauses = field(default_factory=Pauses)
    shown: list = field(default_factory=list)  # complaints about what clients were shown


class LeaderWatch(threading.Thread):
    """When the gateway first knew a leader of a later term."""

    def __init__(self, cluster, kernel_id, term):
        super().__init__(daemon=True)
        self._cluster, self._kernel_id, self._term = cluster, kernel_id, term
        self._over = threading.Event()
        self.seen_at = None

    def run(self):
        while not self._over.wait(0.02):
            row = self._cluster.kernel_row(self._kernel_id)
            if row and row["leader_host"] and row["term"] > self._term:
                self.seen_at = time.monotonic()
                return

    def stop(self):
        self._over.set()
        self.join(10)


class Drill:
    """`where`: the fault strikes the "executor" of the kernel, or the "spare" host that gets a
    replica."""

    def __init__(self, cluster, bystander, fault, phase, where, folder):
        self.cluster, self.bystander, self.fault, self.phase = cluster, bystander, fault, phase
        self.where, self.folder = where, folder
        self.outcome = Outcome()
        self._cells = {}  # number -> (client, msg_id)
        self._healed = threading.Lock()
        self._migration = None
        self._running = None

    def run(self):
        kernel_id = self.cluster.start_kernel()
        self.kernel = kernel_id
        self.first = self.second = None
        try:
            self.cluster.wait_replicas(kernel_id, timeout=90)
            self.first = Recorder(self.cluster, kernel_id)
            self.second = Recorder(self.cluster, kernel_id)
            self._play()
        finally:
            for client in (self.first, self.second):
                if client is not None:
                    client.close()
            poll("the kernel is forgotten", lambda: self._forgotten(kernel_id), 60)
        return self.outcome

    def _forgotten(self, kernel_id):
        try:
            return self.cluster.call("DELETE", f"/api/nbos/kernels/{kernel_id}")[0] in (204, 404)
        except OSError:
            return False

    def _play(self):
        setup = self.first.execute(SETUP.format(folder=str(self.folder)), CELL_LIMIT_S)
        assert setup.status == "ok", setup.error
        self._ok(self.first, self._cell(self.first, CELL))
        self._ok(self.second, self._cell(self.second, CELL))
        self._prepare_phase()
        host = self._host_to_strike()
        try:
            self.fault.prepare(self.cluster, host, self.kernel)
            self._running = self._reach_phase()
            self._strike(host, self._running)
        finally:
            self._heal(host)
        poll("all hosts are up again", self.cluster.all_hosts_up, 60)
        self.cluster.wait_replicas(self.kernel, timeout=120)
        self._check()
        self.bystander.check()

    # ---- cells ----

    def _cell(self, client, code, **values):
        number = len(self._cells)
        self._cells[number] = (client, client.submit(code.format(number=number, **values)))
        return number

    def _finish(self, number, timeout=CELL_LIMIT_S):
        client, msg_id = self._cells[number]
        return client.finish(msg_id, timeout)

    def _answer(self, number):
        client, msg_id = self._cells[number]
        return client.answer(msg_id)

    def _ok(self, client, number):
        run = self._finish(number)
        assert run.status == "ok", (number, run.error)
        return run

    def _noted(self, name):
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    # ---- the moment of the fault ----

    def _prepare_phase(self):
        if self.phase == "snapshot transfer":
            self._ok(self.first, self._cell(self.first, LARGE, bytes=STATE_BYTES))

    def _host_to_strike(self):
        self.cluster.wait_replicas(self.kernel, timeout=90)
        row = self.cluster.kernel_row(self.kernel)
        self.term = row["term"]
        executor = self.cluster.executor_host(self.kernel)
        hosts = {replica["host"] for replica in row["replicas"]}
        self.spare = next(host for host in self.cluster.machines if host not in hosts)
        self.leads = row["leader_host"] == executor
        return executor if self.where == "executor" else self.spare

    def _reach_phase(self):
        """Returns the number of the cell that runs, if one does."""
        return {"idle": lambda: None, "running": self._reach_running,
                "result commit": self._reach_commit,
                "membership change": self._reach_change,
                "snapshot transfer": self._reach_transfer}[self.phase]()

    def _reach_running(self):
        lost_by_silence = self.fault.silent and LOST in self.fault.running
        lines = LINES_PAST_GRACE if lost_by_silence else LINES
        number = self._cell(self.first, RUNNING, lines=lines)
        poll("the cell prints", lambda: len(self._answer(number).lines) > 5, 30, 0.01)
        return number

    def _reach_commit(self):
        number = self._cell(self.first, LARGE, bytes=STATE_BYTES)
        poll("its code has ended", lambda: str(number) in self._noted("ended"), 60, 0.002)
        return number

    def _move_to_the_spare(self):
        self._migration = threading.Thread(target=self._migrate, daemon=True)
        self._migration.start()

    def _migrate(self):
        with contextlib.suppress(OSError):  # the gateway may be what dies
            self.cluster.order_migration(self.kernel, self.spare)

    def _reach_change(self):
        self._move_to_the_spare()
        poll("the change begins", lambda: self.cluster.kernel_row(self.kernel)["repair"], 30, 0.005)

    def _reach_transfer(self):
        if self.fault.bites_late:
            self.fault.strike(self.cluster, self.spare, self.kernel)  # before there is a segment
        self._move_to_the_spare()
        poll("the newcomer is there, and behind", self._newcomer_is_behind, 60, 0.005)

    def _newcomer_is_behind(self):
        row = self.cluster.kernel_row(self.kernel)
        if not self.cluster.machines[self.spare].runs():
            return True
        for replica in row["replicas"]:
            if replica["host"] == self.spare:
                assert replica["sequence"] < row["sequence"] or replica["interpreter"] != "ready", \
                    f"the transfer was over before the fault: {row}"
                return replica["member"] == "learner"
        return False

    # ---- the fault ----

    def _strike(self, host, running):
        clients = {client: client.connections
                   for client in (self.first, self.second, self.bystander.client)}
        watch = LeaderWatch(self.cluster, self.kernel, self.term)
        if running is not None:
            assert self._answer(running).reply is None, "the cell ended before the fault"
        struck = time.monotonic()
        self.fault.strike(self.cluster, host, self.kernel)
        watch.start()
        timer = threading.Timer(self.fault.duration, self._heal, [host])
        if self.fault.duration:
            timer.start()
        try:
            if self.fault.cuts_clients:
                poll("all clients are connected again", lambda: all(
                    client.connections > before for client, before in clients.items()), 60, 0.01)
            following = self._next_cell()
            self.bystander.begin()
            self.fault.follow(self.cluster, host)
            self._await(struck, running, following)
            self.bystander.finish()
            if self.fault.host_dies:
                self._await_repair(host)
            if self._migration is not None:
                self._migration.join(120)
        finally:
            watch.stop()
            if self.fault.duration:
                timer.join()
        if watch.seen_at and self.leads and self.where == "executor" and not self.fault.bites_late:
            self.outcome.pauses.leader = watch.seen_at - struck

    def _next_cell(self):
        if self.fault.bites_late:
            return self._cell(self.second, LARGE, bytes=STATE_BYTES)
        return self._cell(self.second, CELL)

    def _await(self, struck, running, following):
        pauses, due = self.outcome.pauses, struck
        if running is not None:
            run = self._finish(running)
            due = max(due, run.replied_at)
            self.outcome.running = ending_of(run)
            if self.outcome.running == LOST:
                pauses.told = run.replied_at - struck
        after = self._finish(following)
        if ending_of(after) == LOST and self.fault.bites_late:
            due = after.replied_at
            after = self._finish(self._cell(self.second, CELL))
        assert after.status == "ok", f"the next cell: {after.error}"
        pauses.cell = max(0.0, after.replied_at - due)  # two connections have two speeds

    def _await_repair(self, host):
        if self.fault.bites_late:
            if self.phase == "membership change":
                return  # what it cannot write any more is not for this host
            self._write_until_it_stops(host)
        self.cluster.wait_replicas(self.kernel, timeout=90, without=[host])

    def _write_until_it_stops(self, host):
        """A log writes over its own emptied segments first: a large write or two may still fit."""
        def stopped():
            return not self.cluster.machines[host].runs()

        for _ in range(WRITES_TO_FULL):
            with contextlib.suppress(TimeoutError):
                poll("the host has stopped", stopped, 5)
                return
            self.fault.follow(self.cluster, host)
            self._finish(self._cell(self.second, LARGE, bytes=STATE_BYTES))
        poll("the host has stopped", stopped, 30)

    def _heal(self, host):
        if self._healed.acquire(blocking=False):
            self.fault.heal(self.cluster, host)

    # ---- afterwards ----

    def _check(self):
        runs = {number: self._answer(number) for number in self._cells}
        self._check_replies(runs)
        self._check_effects(runs)
        self._check_kept(runs)
        for number, run in runs.items():
            lines = LINES if self.phase == "running" and number == self._running else 1
            self.outcome.shown += complaints(number, run, lines)
        self._check_pauses()

    def _check_replies(self, runs):
        allowed = self.fault.running if self.phase == "running" else self.fault.commit
        assert not self.outcome.running or self.outcome.running in allowed, \
            f"the cell {self.outcome.running}; allowed is {allowed}"
        for number, run in runs.items():
            assert ending_of(run) in (COMPLETES, LOST), f"cell {number}: {run.error}"
        counts = [runs[number].count for number in sorted(runs)]
        assert len(set(counts)) == len(counts), f"a count came twice: {counts}"
        sessions = set().union(*(run.sessions for run in runs.values()))
        assert len(sessions) == 1, f"more than one kernel session: {sessions}"

    def _check_effects(self, runs):
        began = self._noted("began")
        for number, run in runs.items():
            times = began.count(str(number))
            assert times <= 1, f"the code of cell {number} began {times} times"
            assert times == 1 or run.status != "ok", f"cell {number} is ok and never began"
        beats = len(self._noted("beats"))
        time.sleep(0.5)
        assert beats == len(self._noted("beats")), "a cell that has ended goes on"

    def _check_kept(self, runs):
        """On two executors: exactly what was acknowledged, in the order of the counts."""
        done = sorted((run.count, number) for number, run in runs.items() if run.status == "ok")
        kept, last = [number for _, number in done], max(run.count for run in runs.values())
        sizes = [number for number in kept if str(number) in self._noted("ended")]
        ask = f"log, {[f'large_{number}' for number in sizes]} == sorted(" \
              "(name for name in globals() if name.startswith('large_')), key=lambda n: int(n[6:])), " \
              "socket.gethostname()"
        wanted = self.cluster.executor_host(self.kernel)
        for client in (self.first, self.second):
            run = client.execute(ask)
            assert (run.status, run.text) == ("ok", f"({kept}, True, {wanted!r})"), \
                (run.error, run.text, wanted)
            assert run.count > last, f"count {run.count} after {last}"
            last = run.count
            wanted = self.cluster.migrate(self.kernel)

    def _check_pauses(self):
        pauses = self.outcome.pauses
        grace = GRACE_S if self.fault.silent else 0
        for what, seconds, aim in (("a new leader", pauses.leader, AIM_LEADER_S),
                                   ("the next cell", pauses.cell, AIM_CELL_S),
                                   ("ExecutorLost", pauses.told, AIM_CELL_S + grace)):
            assert seconds is None or seconds <= FAILS_BEYOND * aim, \
                f"{what} came after {seconds:.1f} s; the aim is {aim} s"


def ending_of(run):
    if run.status == "ok":
        return COMPLETES
    return LOST if run.error[0] == LOST else run.status


def complaints(number, run, lines):
    """What is wrong with what a client was shown of a cell."""
    shown = [line.split() for line in run.lines]
    found = []
    if len({line[0] for line in shown}) > 1:
        found.append(f"cell {number} was shown from two executors: {shown}")
    if len(run.replies) != 1 or run.statuses != ["busy", "idle"]:
        found.append(f"cell {number}: {len(run.replies)} replies, {run.statuses}")
    order = [int(line[2]) for line in shown]
    complete = list(range(lines))
    wanted = complete if run.status == "ok" else complete[:len(order)]
    if run.status == "ok" and order != wanted or order != sorted(set(order)):
        found.append(f"cell {number} ({ending_of(run)}) printed {order}")
    return found


class Bystander:
    """A kernel that nobody does anything to; it lives through all drills of a cluster."""

    def __init__(self, cluster):
        self._kernel = cluster.start_kernel()
        cluster.wait_replicas(self._kernel)
        self.client = Recorder(cluster, self._kernel)
        self.client.execute("steps = []")
        self._steps = 0
        self._begun = None

    def begin(self):
        self._steps += 1
        self._begun = self.client.submit(f"steps.append({self._steps})\nprint({self._steps})")

    def finish(self):
        run = self.client.finish(self._begun, CELL_LIMIT_S)
        assert run.status == "ok", f"the bystander was harmed: {run.error}"

    def check(self):
        run = self.client.execute(f"steps == list(range(1, {self._steps} + 1)) or steps")
        assert run.text == "True", run.text

    def close(self):
        self.client.close()
