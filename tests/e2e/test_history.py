"""Clients of real processes under random faults, judged by the checker that judges the simulator's.

Several clients work on a few kernels while hosts, agents, interpreters, networks and the gateway
fail; what they asked for and heard, and the ledger of what began, goes to a file, and the program
history_check says which promises were broken.

NBOS_HISTORY_S  seconds of faults (default 40; the suite `history` takes 600)
NBOS_SEED       of the faults and of what clients ask for (default: drawn)
"""
import collections
import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

import pytest

import netns
from chaos import Chaos
from cluster import ROOT, poll
from history import CHECKER, SETUP, History, HistoryClient, verdict

OUTPUT = ROOT / "build" / "test-output" / "history"
RECORDED = Path(__file__).with_name("recorded_history.jsonl")  # by a short run of the test below
SECONDS = int(os.environ.get("NBOS_HISTORY_S", "40"))
SEED = os.environ.get("NBOS_SEED") or str(random.SystemRandom().randrange(10**9))
KERNELS, CLIENTS = 2, 5
ANSWER_S = 120  # after everything is mended: the machine may be slow


@pytest.fixture(scope="module")
def machines():
    if netns.why_not():
        pytest.skip("hosts that can be cut off need what this machine lacks: " + netns.why_not())
    assert Path(CHECKER).exists(), f"{CHECKER} is not built: cmake --build --preset release"
    folder = Path(tempfile.mkdtemp(prefix="nbos-hist-"))  # short: sockets are below it
    with netns.running(folder / "c", OUTPUT / "logs") as cluster:
        yield cluster
    shutil.rmtree(folder, ignore_errors=True)


def start_kernels(cluster, ledger):
    kernels = [cluster.start_kernel() for _ in range(KERNELS)]
    for kernel in kernels:
        cluster.wait_replicas(kernel, timeout=90)
        with cluster.connect(kernel) as conversation:
            setup = conversation.execute(SETUP.format(ledger=str(ledger)))
            assert setup.status == "ok", setup.error
    return kernels


def answered(clients):
    return all(client.idle() for client in clients)


def await_answers(clients, what):
    try:
        poll(what, lambda: answered(clients), ANSWER_S, 0.2)
    except TimeoutError:
        pass  # the checker names the requests


def test_promises_are_kept_whatever_breaks(machines):
    ledger = machines.data / "ledger"
    history = History()
    kernels = start_kernels(machines, ledger)
    clients = [HistoryClient(machines, kernels[number % KERNELS], number + 1, SEED, history)
               for number in range(CLIENTS)]
    chaos = Chaos(machines, kernels, SEED, lambda what, host: begin_fault(history, what, host))
    try:
        chaos.run(SECONDS)
        poll("all hosts are up", machines.all_hosts_up, 60)
        history.add("healed")
        for client in clients:
            client.stop_asking()
        await_answers(clients, "all is answered")
        for client in clients:
            client.order("append", "read")
        await_answers(clients, "the last reads are answered")
        time.sleep(2)  # for what would come too much
    finally:
        for client in clients:
            client.close()
        history.add_ledger(ledger)
        history.add("finished")
        OUTPUT.mkdir(parents=True, exist_ok=True)
        path = OUTPUT / f"seed-{SEED}.jsonl"
        history.write(path)
    code, said = verdict(path, ANSWER_S * 1000)
    times = collections.Counter(chaos.struck)
    print(f"seed {SEED}: {said.splitlines()[0]}; "
          f"{', '.join(f'{n} x {what}' for what, n in sorted(times.items()))}")
    assert code == 0, f"NBOS_SEED={SEED}, history and ledger in {path}:\n{said}"
    path.replace(OUTPUT / "last-accepted.jsonl")


def begin_fault(history, what, host):
    history.add("fault", name=what, who=host)
    if what == "gateway SIGKILL":
        history.add("gateway_gone")


# ---- would it see a broken promise? ----

def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def reply_of(records, **wanted):
    """The last execute_reply to a request that was asked so, and what was asked."""
    asked = {record["msg"]: record for record in records
             if record["kind"] == "asked" and wanted.items() <= record.items()}
    for at in range(len(records) - 1, 0, -1):
        record = records[at]
        if record["kind"] == "heard" and record["type"] == "execute_reply" \
                and record["msg"] in asked and record["state"] == "ok":
            return at, asked[record["msg"]]
    raise AssertionError(f"no answered request with {wanted}")


def twice_begun(records):
    at = next(n for n, record in enumerate(records) if record["kind"] == "began")
    records.insert(at, dict(records[at]))


def effect_gone(records):
    _, cell = reply_of(records, op="append", name="shared")
    tag = cell["tag"]
    for record in records:
        if "text" in record and record["kernel"] == cell["kernel"]:
            words = [word.partition("=") for word in record["text"].split()]
            record["text"] = " ".join(
                name + equals + ",".join(one for one in value.split(",") if one != tag)
                for name, equals, value in words)


def lost_cell_has_an_effect(records):
    at, _ = reply_of(records, op="append", name="shared")
    records[at].update(state="error", ename="ExecutorLost")


def counter_behind(records):
    _, cell = reply_of(records, op="add")
    for record in records:
        if record.get("msg") == cell["msg"] and "count=" in record.get("text", ""):
            number = int(record["text"].split("count=")[1].split()[0])
            record["text"] = record["text"].replace(f"count={number}", f"count={number - 1}")


def two_executors(records):
    at, cell = reply_of(records, op="append")
    mine = next(n for n, record in enumerate(records) if record["kind"] == "heard"
                and record["msg"] == cell["msg"] and "by " in record.get("text", ""))
    records.insert(mine + 1, {**records[mine], "text": "by another-host.1\n"})


def answered_twice(records):
    at, _ = reply_of(records, op="append")
    records.insert(at + 1, dict(records[at]))


def never_answered(records):
    at, cell = reply_of(records, op="read")
    records[:] = [record for record in records
                  if record.get("msg") != cell["msg"] or record["kind"] == "asked"]


PLANTED = {twice_begun: "exactly once", effect_gone: "durability",
           lost_cell_has_an_effect: "no effect", counter_behind: "durability",
           two_executors: "one executor", answered_twice: "answers", never_answered: "liveness"}


def test_what_was_recorded_is_accepted():
    code, said = verdict(RECORDED)
    assert code == 0, said


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_violation_is_called_by_its_name(plant, tmp_path):
    records = read(RECORDED)
    plant(records)
    changed = tmp_path / "history.jsonl"
    changed.write_text("".join(json.dumps(record) + "\n" for record in records))
    code, said = verdict(changed)
    assert code == 1 and f" {PLANTED[plant]}: " in said, said


@pytest.mark.parametrize("text, complaint", [("", "proves nothing"), ("{}\nno json\n", "line 2")])
def test_no_verdict_without_a_history(tmp_path, text, complaint):
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    code, said = verdict(path)
    assert code == 2 and complaint in said, said
    assert verdict(tmp_path / "absent")[0] == 2
