"""The fault matrix: every fault of faults.py at every moment of a kernel's life, on machines in
network namespaces. What is asserted is in drill.py; what design section 6 allows, in faults.py.

NBOS_DRILLS=all  every cell of the matrix; by default one drill a fault, without the long ones
"""
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

import netns
from cluster import ROOT
from drill import AIM_CELL_S, AIM_LEADER_S, Bystander, Drill
from faults import (AgentKilled, AgentStopped, AllAgentsKilled, Cut, DiskFull, GatewayKilled,
                    InterpreterKilled, LogDamaged, LogTorn, OutOfMemory, PowerOff)

OUTPUT = ROOT / "build" / "test-output" / "drills"
PHASES = ("idle", "running", "result commit", "membership change", "snapshot transfer")
EXECUTOR, SPARE = "executor", "spare"

# fault -> which host it strikes while a snapshot goes from the executor's to the spare host.
FAULTS = {
    InterpreterKilled: EXECUTOR, OutOfMemory: EXECUTOR, AgentKilled: SPARE, PowerOff: EXECUTOR,
    (lambda: Cut(10)): SPARE, (lambda: Cut(90)): EXECUTOR, (lambda: Cut(10, "out")): SPARE,
    (lambda: Cut(10, "in")): SPARE, AgentStopped: SPARE, GatewayKilled: EXECUTOR,
    AllAgentsKilled: EXECUTOR, DiskFull: SPARE, LogDamaged: SPARE,
}
EVERY = [(make, phase, where if phase == PHASES[4] else EXECUTOR)
         for make, where in FAULTS.items() for phase in PHASES]
EVERY.append((LogTorn, "idle", EXECUTOR))
FAST = {("interpreter SIGKILL", "running"), ("out of memory", "idle"),
        ("agent SIGKILL", "snapshot transfer"), ("host power-off", "result commit"),
        ("cut 10 s", "running"), ("one-way cut (out) 10 s", "membership change"),
        ("one-way cut (in) 10 s", "running"),
        ("agent SIGSTOP 10 s", "idle"), ("gateway SIGKILL", "running"),
        ("all agents SIGKILL", "running"), ("log disk full", "idle"),
        ("chunk file corrupted", "membership change"), ("log tail torn", "idle")}


def named(drill):
    make, phase, _ = drill
    return f"{make().name}, {phase}"


CHOSEN = [drill for drill in EVERY if os.environ.get("NBOS_DRILLS") == "all"
          or (drill[0]().name, drill[1]) in FAST]


@pytest.fixture(scope="module")
def folder():
    path = Path(tempfile.mkdtemp(prefix="nbos-drill-"))  # short: sockets are below it
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def machines(folder):
    if netns.why_not():
        pytest.skip(netns.why_not())
    with netns.running(folder / "c", OUTPUT / "logs") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def bystander(machines):
    bystander = Bystander(machines)
    yield bystander
    bystander.close()


@pytest.fixture(scope="module")
def outcomes(request):
    """Of the drills so far; a table of the pauses is printed at the end, whatever pytest captures."""
    found = {}
    yield found
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "pauses.txt").write_text(table(found) + "\n")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n" + table(found))


def table(outcomes):
    def seconds(value):
        return f"{value:8.2f}" if value is not None else "       -"

    lines = [f"{'drill':44} {'the cell':14}   leader     told     next  (s; aims: "
             f"{AIM_LEADER_S:g} leader, {AIM_CELL_S:g} next)"]
    for name, outcome in outcomes.items():
        pauses = outcome.pauses
        lines.append(f"{name:44} {outcome.running or '-':14} {seconds(pauses.leader)} "
                     f"{seconds(pauses.told)} {seconds(pauses.cell)}")
    return "\n".join(lines)


@pytest.mark.parametrize("drill", CHOSEN, ids=named)
def test_drill(machines, bystander, outcomes, folder, drill):
    make, phase, where = drill
    fault = make()
    if fault.why_not():
        pytest.skip(fault.why_not())
    shared = folder / f"drill-{len(outcomes)}"
    shared.mkdir()
    run = Drill(machines, bystander, fault, phase, where, shared)
    try:
        run.run()
    finally:
        outcomes[named(drill)] = run.outcome
        keep(named(drill), run.outcome)
    assert run.outcome.shown == []


def keep(name, outcome):
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with open(OUTPUT / "pauses.jsonl", "a") as file:
        file.write(json.dumps({"drill": name, "the cell": outcome.running,
                               **vars(outcome.pauses)}) + "\n")
