"""The gateway is killed under its clients; it is started again, and they connect again."""
import pytest

from cluster import poll
from conversation import Closed, WsConversation
from stock import StockServer

SLOW = """
import time
for i in range(40):
    print(i, flush=True)
    time.sleep(0.1)
'done'
"""


@pytest.fixture(autouse=True)
def leaves_a_gateway_that_serves(cluster):
    yield
    poll("the gateway lists kernels again",
         lambda: cluster.cli("kernel", "list", check=False).returncode == 0, 30)


def connect_again(cluster, kernel, session):
    def connected():
        try:
            return cluster.connect(kernel, session=session)
        except OSError:
            return None
        except Exception as refused:  # 503: it has just started
            if "503" in str(refused) or "refused" in str(refused).lower():
                return None
            raise
    return poll("the gateway takes WebSockets again", connected, 60, 0.05)


def until_closed(conversation):
    """What still arrives."""
    got = []
    try:
        while True:
            got.append(conversation.receive(30))
    except Closed:
        return got


def of_cell(messages, msg_id):
    return [m for m in messages if m["parent_header"].get("msg_id") == msg_id]


def printed(messages):
    return "".join(m["content"]["text"] for m in messages if m["header"]["msg_type"] == "stream")


def kinds(messages):
    return [m["content"].get("execution_state", m["header"]["msg_type"]) for m in messages
            if m["header"]["msg_type"] != "stream"]


@pytest.mark.parametrize("heard", [0, 5])
def test_a_running_cell_goes_on_where_its_client_stopped_hearing(cluster, kernel, heard):
    conversation = cluster.connect(kernel)
    cell = conversation.submit(SLOW)
    before = []
    while len([m for m in before if m["header"]["msg_type"] == "stream"]) < heard:
        before.append(conversation.receive())
    if not heard:
        before.append(conversation.wait_for(lambda m: m["content"].get("execution_state") == "busy"))
    cluster.kill_gateway()
    before += until_closed(conversation)
    again = connect_again(cluster, kernel, conversation.session)
    after = []
    while not {"execute_reply", "idle"} <= set(kinds(of_cell(after, cell))):
        after.append(again.receive(60))
    messages = of_cell(before + after, cell)
    assert printed(messages) == "".join(f"{i}\n" for i in range(40))
    assert kinds(messages) == ["busy", "execute_input", "execute_result", "execute_reply", "idle"]
    assert again.execute("1 + 1").text == "2"


def test_a_cell_that_ends_without_a_gateway_is_answered(cluster, kernel):
    conversation = cluster.connect(kernel)
    assert conversation.execute("kept = 1").status == "ok"
    cell = conversation.submit("import time\nprint('on', flush=True)\ntime.sleep(0.3)\nkept = 2\nkept")
    conversation.wait_for(lambda m: m["header"]["msg_type"] == "stream")
    cluster.kill_gateway()
    until_closed(conversation)
    # A second client, so that the cell's end is surely known before the first one comes back.
    other = connect_again(cluster, kernel, "another-session")
    assert other.execute("kept").text == "2"
    again = connect_again(cluster, kernel, conversation.session)
    messages = []
    while not {"execute_reply", "idle"} <= set(kinds(of_cell(messages, cell))):
        messages.append(again.receive(30))
    mine = of_cell(messages, cell)
    assert printed(mine) == ""  # heard before
    assert kinds(mine) == ["execute_result", "execute_reply", "idle"]
    # And once is enough.
    third = connect_again(cluster, kernel, conversation.session)
    assert of_cell(third.drain(1.0), cell) == []


def test_cells_that_wait_in_the_queue_are_not_lost(cluster, kernel):
    conversation = cluster.connect(kernel)
    cells = [conversation.submit(f"import time; time.sleep(0.5); order = globals().get('order', []) + [{i}]")
             for i in range(4)]
    conversation.wait_for(lambda m: m["content"].get("execution_state") == "busy")
    poll("all are queued", lambda: (cluster.kernel_row(kernel) or {}).get("queued") == 4, 30)
    cluster.kill_gateway()
    until_closed(conversation)
    again = connect_again(cluster, kernel, conversation.session)
    seen = []
    while sum(m["header"]["msg_type"] == "execute_reply" for m in seen) < 4:
        seen.append(again.receive(60))
    replies = [m["parent_header"]["msg_id"] for m in seen if m["header"]["msg_type"] == "execute_reply"]
    assert replies == cells
    assert again.execute("order").text == "[0, 1, 2, 3]"


def test_a_browser_behind_jupyter_server_notices_nothing(cluster, tmp_path):
    """Its WebSocket stays open, and nothing is missing in it."""
    front = StockServer(
        str(tmp_path), "front-token", f"--gateway-url={cluster.url}",
        f"--GatewayClient.auth_token={cluster.token}",
        "--ServerApp.kernel_websocket_connection_class=nbos_jupyter_server.connection.Connection")
    try:
        kernel = front.start_kernel()
        cluster.wait_replicas(kernel)
        with WsConversation(front.url, kernel, front.token) as conversation:
            cell = conversation.submit(SLOW)
            conversation.wait_for(lambda m: m["content"].get("text", "").startswith("3"))
            cluster.kill_gateway()
            queued = conversation.submit("6 * 7")
            first = conversation.finish(cell)
            assert first.text.endswith("".join(f"{i}\n" for i in range(4, 40)) + "'done'")
            assert conversation.finish(queued).text == "42"
    finally:
        front.stop()
        cluster.forget(kernel)


# ---- questions for input ----

ASKS = "first = input('first? ')\nprint('got', first, flush=True)\nsecond = input('second? ')\nfirst + second"


def is_question(message):
    return message["header"]["msg_type"] == "input_request"


def questions(messages):
    return [m["content"]["prompt"] for m in messages if is_question(m)]


def answer(conversation, question, value):
    conversation.send("input_reply", {"value": value, "status": "ok"}, "stdin", question["header"])


def test_a_question_is_asked_again_of_its_session_only(cluster, kernel):
    conversation = cluster.connect(kernel)
    cell = conversation.submit(ASKS)
    conversation.wait_for(is_question)
    cluster.kill_gateway()
    until_closed(conversation)
    stranger = connect_again(cluster, kernel, "a-stranger")
    again = connect_again(cluster, kernel, conversation.session)
    question = again.wait_for(is_question)
    answer(again, question, "one ")
    second = again.wait_for(is_question)
    assert (question["content"]["prompt"], second["content"]["prompt"]) == ("first? ", "second? ")
    # What is answered is not asked again; what is not is, also when only the connection breaks.
    again.drop()
    third = connect_again(cluster, kernel, conversation.session)
    second = third.wait_for(is_question)
    cluster.kill_gateway()
    until_closed(third)
    fourth = connect_again(cluster, kernel, conversation.session)
    asked = fourth.wait_for(is_question)
    assert asked["header"]["msg_id"] == second["header"]["msg_id"]
    answer(fourth, asked, "two")
    run = fourth.finish(cell)
    assert run.text.endswith("'one two'"), run
    for client, wanted in ((again, ["first? ", "second? "]), (third, ["second? "]),
                           (fourth, ["second? "]), (stranger, [])):
        assert questions(client.seen) == wanted
    assert fourth.execute("first, second").text == "('one ', 'two')"


def test_a_question_that_comes_while_no_gateway_is_there_is_asked(cluster, kernel):
    conversation = cluster.connect(kernel)
    cell = conversation.submit("import time\nprint('on', flush=True)\ntime.sleep(0.3)\ninput('who? ')")
    conversation.wait_for(lambda m: m["header"]["msg_type"] == "stream")
    cluster.kill_gateway()
    assert questions(until_closed(conversation)) == []
    again = connect_again(cluster, kernel, conversation.session)
    answer(again, again.wait_for(is_question), "me")
    assert again.finish(cell).text == "'me'"
    assert questions(again.seen) == ["who? "]


def test_an_answer_that_the_gateway_took_is_not_asked_for_again(cluster, kernel):
    conversation = cluster.connect(kernel)
    cell = conversation.submit("name = input('who? ')\nprint('on', flush=True)\nimport time; time.sleep(3)\nname")
    answer(conversation, conversation.wait_for(is_question), "me")
    conversation.wait_for(lambda m: m["header"]["msg_type"] == "stream")
    cluster.kill_gateway()
    until_closed(conversation)
    again = connect_again(cluster, kernel, conversation.session)
    run = again.finish(cell)
    assert run.text.endswith("'me'") and questions(again.seen) == []
