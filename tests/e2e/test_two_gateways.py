"""Two gateways on one cluster: clients on each, one that is killed in mid-cell, and all of them."""
import nbformat
import pytest

from cluster import Cluster, CommandFailed, poll
from conftest import running
from stock import Rest
from test_gateway_crash import connect_again, kinds, of_cell, printed, until_closed
from test_headless import NBCLIENT, in_gateway_mode

SLOW = """
import time
for i in range(40):
    print(i, flush=True)
    time.sleep(0.1)
'done'
"""


class Behind(Rest):
    """The same cluster, through one of its gateways."""

    def __init__(self, cluster, name):
        super().__init__(cluster.gateway_url(name), cluster.token)

    connect = Cluster.connect

    def kernels(self):
        status, models = self.call("GET", "/api/kernels")
        return {model["id"] for model in models} if status == 200 else None


@pytest.fixture(scope="module")
def pair(cluster_folder):
    """Four hosts and two gateways."""
    made = Cluster(cluster_folder / "pair", gateways=2, parked_for="1h")
    yield from running(made, "two_gateways")


@pytest.fixture
def one(pair):
    return Behind(pair, "gateway")


@pytest.fixture
def two(pair):
    return Behind(pair, "gateway-2")


@pytest.fixture
def kernel(pair, one):
    kernel_id = one.start_kernel()
    pair.wait_replicas(kernel_id)
    yield kernel_id
    one.call("DELETE", f"/api/nbos/kernels/{kernel_id}")


@pytest.fixture(autouse=True)
def leaves_both_gateways_serving(pair):
    yield
    for name in ("gateway", "gateway-2"):
        poll(f"{name} serves", lambda name=name: serves(pair, name), 60)
    poll("all hosts are up", pair.all_hosts_up)


def serves(pair, name):
    try:
        return Behind(pair, name).kernels() is not None
    except (OSError, StopIteration):
        return False


def finish(conversation, cell, before=()):
    """Everything of the cell, until its reply and its idle have come."""
    messages = list(before)
    while not {"execute_reply", "idle"} <= set(kinds(of_cell(messages, cell))):
        messages.append(conversation.receive(60))
    return of_cell(messages, cell)


def test_what_one_gateway_does_the_other_shows(pair, one, two, kernel):
    assert kernel in poll("the other gateway shows it", two.kernels)
    here, there = one.connect(kernel), two.connect(kernel)
    assert here.execute("shared = 6").status == "ok"
    assert there.execute("shared * 7").text == "42"
    status, session = two.call("POST", "/api/sessions", {
        "path": "both.ipynb", "type": "notebook", "kernel": {"id": kernel}})
    assert status == 201, session
    assert session["id"] in [known["id"] for known in one.call("GET", "/api/sessions")[1]]
    assert two.call("POST", f"/api/kernels/{kernel}/restart")[0] == 200
    assert here.execute("'shared' in globals()").text == "False"
    assert two.call("DELETE", f"/api/kernels/{kernel}")[0] == 204
    assert one.call("GET", f"/api/kernels/{kernel}")[0] == 404
    assert one.call("POST", "/api/kernels", {"env": {"KERNEL_ID": kernel}})[0] == 201
    assert two.call("GET", f"/api/kernels/{kernel}")[0] == 200


def test_an_interrupt_through_the_other_gateway(one, two, kernel):
    conversation = one.connect(kernel)
    cell = conversation.submit("import time\nprint('on', flush=True)\ntime.sleep(600)")
    conversation.wait_for(lambda m: m["header"]["msg_type"] == "stream")
    assert two.call("POST", f"/api/kernels/{kernel}/interrupt")[0] == 204
    reply = finish(conversation, cell)
    assert "KeyboardInterrupt" in [m["content"].get("ename") for m in reply]


def test_a_cell_goes_on_at_the_other_gateway(pair, one, two, kernel):
    conversation = one.connect(kernel)
    watcher = two.connect(kernel)
    cell = conversation.submit(SLOW)
    before = []
    while len([m for m in before if m["header"]["msg_type"] == "stream"]) < 5:
        before.append(conversation.receive())
    pair.kill_gateway("gateway")
    before += until_closed(conversation)
    again = two.connect(kernel, session=conversation.session)
    messages = finish(again, cell, before)
    assert printed(messages) == "".join(f"{i}\n" for i in range(40))
    assert kinds(messages) == ["busy", "execute_input", "execute_result", "execute_reply", "idle"]
    assert again.execute("1 + 1").text == "2"
    # Who was at the other gateway all the time has heard everything but the reply.
    heard = of_cell(watcher.drain(1.0), cell)
    assert printed(heard) == "".join(f"{i}\n" for i in range(40))
    assert kinds(heard) == ["busy", "execute_input", "execute_result", "idle"]


def test_an_end_that_nobody_heard_is_told_at_the_other_gateway(pair, one, two, kernel):
    conversation = one.connect(kernel)
    cell = conversation.submit("import time\nprint('on', flush=True)\ntime.sleep(0.5)\n'end'")
    conversation.wait_for(lambda m: m["header"]["msg_type"] == "stream")
    pair.kill_gateway("gateway")
    until_closed(conversation)
    other = two.connect(kernel)
    assert other.execute("1").text == "1"  # behind the cell: that has ended
    again = two.connect(kernel, session=conversation.session)
    messages = finish(again, cell)
    assert printed(messages) == ""  # heard before
    assert kinds(messages) == ["execute_result", "execute_reply", "idle"]
    poll("the first gateway is back", lambda: serves(pair, "gateway"), 60)
    back = connect_again(one, kernel, conversation.session)
    assert of_cell(back.drain(1.0), cell) == []  # once is enough


def test_notebooks_run_through_either(one, two, tmp_path):
    for number, gateway in enumerate((one, two)):
        notebook = nbformat.v4.new_notebook(cells=[
            nbformat.v4.new_code_cell(f"x = {number + 20}"), nbformat.v4.new_code_cell("x * 2")])
        source, target = tmp_path / f"{number}.ipynb", tmp_path / f"{number}.out.ipynb"
        nbformat.write(notebook, source)
        in_gateway_mode(f"{gateway.url}/t/{gateway.token}", NBCLIENT, source, target, cwd=tmp_path)
        ran = nbformat.read(target, as_version=4)
        assert ran.cells[1].outputs[0].data["text/plain"] == str((number + 20) * 2)


def test_the_leader_of_the_tables_is_lost(pair, one, two, kernel):
    def system():
        return (pair.cli("status", "--json")["cluster"] or {}).get("system", {})

    leader = poll("somebody leads the tables", lambda: system().get("leader_host"))
    conversation = two.connect(kernel)
    assert conversation.execute("kept = 5").status == "ok"
    pair.kill_host(leader)
    try:
        made = poll("a kernel can be created again",
                    lambda: one.call("POST", "/api/kernels", {"name": "python3"}), 60)
        assert made[0] == 201, made
        assert made[1]["id"] in poll("both show it", two.kernels)
        assert conversation.execute("kept", timeout=120).text == "5"
        poll("the tables are on three hosts again", lambda: len(
            [m for m in system()["members"] if m["up"] and m["member"] == "voter"]) == 3, 60)
        one.call("DELETE", f"/api/nbos/kernels/{made[1]['id']}")
    finally:
        pair.start_host(leader)


def test_without_a_majority_of_the_tables_kernels_go_on(pair, one, kernel):
    members = [m["host"] for m in pair.cli("status", "--json")["cluster"]["system"]["members"]]
    alone = one.start_kernel(env={"KERNEL_REPLICAS": "1"})
    made = [alone]
    while True:  # on a host that stays
        host = pair.wait_replicas(alone, 1)["replicas"][0]["host"]
        away = [member for member in members if member != host][:2]
        if len(away) == 2:
            break
        alone = one.start_kernel(env={"KERNEL_REPLICAS": "1"})
        made.append(alone)
    conversation = one.connect(alone)
    assert conversation.execute("x = 1").status == "ok"
    for host in away:
        pair.kill_host(host)
    try:
        assert conversation.execute("x + 1").text == "2"
        status, said = one.call("POST", "/api/kernels", {"env": {"KERNEL_REPLICAS": "1"}})
        assert status == 503 and "2 of the 3 hosts" in said["message"], said
        status, said = one.call("DELETE", f"/api/kernels/{alone}")
        assert status == 503, said
        assert conversation.execute("x + 2").text == "3"
    finally:
        for host in away:
            pair.start_host(host)
    for kernel_id in made:
        poll("it can be deleted again", lambda kernel_id=kernel_id: one.call(
            "DELETE", f"/api/nbos/kernels/{kernel_id}")[0] in (204, 404), 60)


def test_tables_whose_hosts_are_lost_are_begun_anew(pair, one, two, kernel):
    def system():
        return (pair.cli("status", "--json")["cluster"] or {}).get("system", {})

    def voters():  # others may be left over from what was lost before
        return [member["host"] for member in system().get("members", ())
                if member["up"] and member["member"] == "voter"]

    poll("three hosts have the tables", lambda: system().get("leader_host") and len(voters()) == 3)
    with pytest.raises(CommandFailed, match="not lost"):
        pair.cli("system", "begin-anew")
    generation = system()["generation"]
    status, session = one.call("POST", "/api/sessions", {
        "path": "anew.ipynb", "type": "notebook", "kernel": {"id": kernel}})
    assert status == 201, session
    away = voters()[:2]
    for host in away:
        pair.kill_host(host)
    try:
        poll("both are known to be lost", lambda: "2 of the 3 hosts" in system()["problem"])
        pair.cli("system", "begin-anew")
        poll("they can be written again", lambda: system().get("leader_host"))
        assert system()["generation"] == generation + 1
        made = one.call("POST", "/api/kernels", {"env": {"KERNEL_REPLICAS": "1"}})
        assert made[0] == 201, made
        poll("the other gateway sees it", lambda: made[1]["id"] in (two.kernels() or ()))
        assert session["id"] in [known["id"] for known in two.call("GET", "/api/sessions")[1]]
        assert one.call("DELETE", f"/api/nbos/kernels/{made[1]['id']}")[0] == 204
    finally:
        for host in away:
            pair.start_host(host)
    poll("the tables are on three hosts", lambda: len(voters()) == 3, 60)
    assert system()["generation"] == generation + 1
    assert kernel in one.kernels()


def test_both_gateways_are_killed_and_one_knows_everything(pair, one, two, kernel):
    status, session = one.call("POST", "/api/sessions", {
        "path": "kept.ipynb", "type": "notebook", "kernel": {"id": kernel}})
    assert status == 201
    parked = two.start_kernel()
    assert two.call("DELETE", f"/api/kernels/{parked}")[0] == 204
    conversation = one.connect(kernel)
    cell = conversation.submit(SLOW)
    conversation.wait_for(lambda m: m["header"]["msg_type"] == "stream")
    pair.kill_gateway("gateway")
    pair.kill_gateway("gateway-2")
    before = until_closed(conversation)
    poll("a gateway serves", lambda: serves(pair, "gateway-2"), 60)  # it had nothing on disk
    assert kernel in two.kernels() and parked not in two.kernels()
    assert session["id"] in [known["id"] for known in two.call("GET", "/api/sessions")[1]]
    rows = two.call("GET", "/api/nbos/kernels?parked=1")[1]
    assert parked in [row["id"] for row in rows]
    again = two.connect(kernel, session=conversation.session)
    messages = finish(again, cell, before)
    assert printed(messages).endswith("39\n")
    assert kinds(messages).count("execute_reply") == 1
    two.call("DELETE", f"/api/nbos/kernels/{parked}")
