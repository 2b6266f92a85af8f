"""The 71 cases between real interpreters: only deltas travel, and both replicas must then agree.

Variants: the standby follows; it is a new interpreter that loads the whole table; the role of the
executor moves between the two cells. EXPECTED_FAILURES is strict: a case that begins to pass must be
taken out, and one that begins to fail is a regression.
"""


import pytest

from agent_side import Agent, Table
from state_cases import CASES

EXPECTED_FAILURES = {}  # (number, variant) -> why

VARIANTS = ("follow", "restart", "move")


@pytest.fixture(scope="module")
def agents():
    made = {}

    def get(heavy):
        if heavy not in made:
            made[heavy] = Agent(preload="numpy,pandas,torch,sklearn.pipeline,sklearn.linear_model" if heavy else "")
        return made[heavy]

    yield get
    for agent in made.values():
        agent.close()


class Pair:
    """An executor, a standby and the table between them."""

    def __init__(self, agent):
        self._agent = agent
        self._all = []
        self.executor, self.standby = self._start(1), self._start(2)
        self.table = Table()
        self.reported = []

    def _start(self, replica):
        interpreter = self._agent.start(replica=replica)
        self._all.append(interpreter)
        return interpreter

    def run(self, code):
        cell = self.executor.run(code)
        assert cell.header["error"] is None, cell.header["error"]
        self.reported += [item["path"] for item in cell.unsupported]
        self.table.merge(cell.delta)
        answer = self.standby.apply(cell.delta)
        assert answer["ok"], answer["error"]
        return cell

    def move(self):
        self.executor, self.standby = self.standby, self.executor

    def restart_standby(self):
        self.standby = self._start(3)
        answer = self.standby.load(self.table.as_delta(), self.executor.sequence)
        assert answer["ok"], answer["error"]

    def close(self):
        for interpreter in self._all:
            interpreter.close()
            while self._agent.report().get("pid") != interpreter.pid:
                pass


def _text(cell):
    errors = [m["content"]["evalue"] for m in cell.outputs if m["msg_type"] == "error"]
    return cell.text().strip() if not errors else "ERROR " + errors[0]


def _probe(case, pair, standby):
    """None when the standby agrees, else what is wrong."""
    if case.report is not None and case.report in pair.reported:
        return None  # named on the cell: nothing was lost in silence
    there = _text(standby.run(case.probe))
    if case.want is not None and there != case.want:
        return f"standby: {there!r}, wanted {case.want!r}"
    return there


def _run(case, agent, move):
    """Variant -> text of the standby's probe; "executor" -> that of the executor's."""
    pair = Pair(agent)
    try:
        pair.run(case.first)
        if move:
            pair.move()
        pair.run(case.second)
        found = {}
        found["move" if move else "follow"] = _probe(case, pair, pair.standby)
        if not move:
            pair.restart_standby()
            found["restart"] = _probe(case, pair, pair.standby)
        if move and case.report is not None and case.report in pair.reported:
            return {**found, "executor": None}  # it runs where the object was said not to be
        found["executor"] = _text(pair.executor.run(case.probe))
        return found
    finally:
        pair.close()


@pytest.fixture(scope="module")
def results(agents):
    """Each case runs once with the role moved and once without; its variants look at the same run."""
    done = {}

    def get(case, move):
        key = (case.number, move)
        if key not in done:
            try:
                done[key] = _run(case, agents(case.heavy), move)
            except AssertionError as error:
                done[key] = error
        return done[key]

    return get


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.number:02d}")
def test_case(case, variant, results, request):
    why = EXPECTED_FAILURES.get((case.number, variant))
    if why:
        request.applymarker(pytest.mark.xfail(reason=why, strict=True))
    found = results(case, variant == "move")
    if isinstance(found, AssertionError):
        raise found
    here, there = found["executor"], found[variant]
    if here is not None and case.want is not None:
        assert here == case.want, "the case itself is wrong"
    assert there in (None, here)
