"""nbos_jupyter_server.connection between a browser that is noted down here and a gateway of tornado's."""
import asyncio
import json
import random
import struct
from types import SimpleNamespace

import pytest
from tornado import httpserver, web, websocket
from traitlets.config import Configurable

pytest.importorskip("jupyter_server")
from jupyter_server.gateway.gateway_client import GatewayClient  # noqa: E402
from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1  # noqa: E402

from nbos_jupyter_server.connection import SUBPROTOCOL_V1, Connection  # noqa: E402
from nbos_jupyter_server.unanswered_cells import UnansweredCells  # noqa: E402

KERNEL = "11111111-2222-4333-8444-555555555555"


class Gateway(websocket.WebSocketHandler):
    """Answers each frame with itself; `state` is what the test sees and sets."""

    def initialize(self, state):
        self.state = state

    def prepare(self):
        if self.state.refuse:
            raise web.HTTPError(self.state.refuse)

    def select_subprotocol(self, offered):
        return SUBPROTOCOL_V1 if SUBPROTOCOL_V1 in offered and self.state.speaks_v1 else None

    def open(self, kernel):
        self.state.opened.append((kernel, self.get_query_argument("session_id"), self.request.headers))
        self.state.sockets.append(self)

    def on_message(self, message):
        self.state.heard.append(message)
        self.write_message(message, binary=isinstance(message, bytes))


class Kernel(Configurable):
    kernel_id = KERNEL


class Browser(websocket.WebSocketHandler):
    selected_subprotocol = None

    def __init__(self, subprotocol):    # without a request: nobody is connected to it
        self.selected_subprotocol = subprotocol
        self.got = []
        self.closed = None

    async def write_message(self, message, binary):
        assert binary == isinstance(message, bytes)
        self.got.append(message)

    def close(self, code, reason):
        self.closed = (code, reason)


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("not within 20 s")


def with_gateway(test, subprotocol=SUBPROTOCOL_V1, **options):
    """Runs `test(connection, browser, state)`, a coroutine, and takes everything down again."""
    async def run():
        state = SimpleNamespace(refuse=None, speaks_v1=True, opened=[], sockets=[], heard=[])
        server = httpserver.HTTPServer(web.Application(
            [(r"/api/kernels/([\w-]+)/channels", Gateway, {"state": state})],
            websocket_max_message_size=64 << 20))
        server.listen(0, "127.0.0.1")
        (listening,) = server._sockets.values()
        state.port = listening.getsockname()[1]
        GatewayClient.clear_instance()
        client = GatewayClient.instance()
        client.url = f"http://127.0.0.1:{state.port}"
        client.auth_token = "secret"
        client.gateway_retry_interval = 0.05
        browser = Browser(subprotocol)
        connection = Connection(parent=Kernel(), websocket_handler=browser, **options)
        connection.session.session = "a-session"
        try:
            await test(connection, browser, state)
        finally:
            connection.disconnect()
            server.stop()
            await server.close_all_connections()
            GatewayClient.clear_instance()
    asyncio.run(run())


@pytest.mark.parametrize("subprotocol", [SUBPROTOCOL_V1, None])
def test_frames_pass_as_they_are(subprotocol):
    async def test(connection, browser, state):
        await connection.connect()
        sent = ["text", b"\x00\xff\xfe binary", "", "x" * (12 << 20)]
        for message in sent:
            connection.handle_incoming_message(message)
        await until(lambda: len(browser.got) == len(sent))
        assert state.heard == sent == browser.got
        ((kernel, session, headers),) = state.opened
        assert (kernel, session) == (KERNEL, "a-session")
        assert headers["Authorization"] == "token secret"
        assert headers.get("Sec-WebSocket-Protocol") == subprotocol
        assert not headers["User-Agent"].startswith("Tornado")
    with_gateway(test, subprotocol)


def test_what_is_sent_while_the_gateway_is_away_waits():
    async def test(connection, browser, state):
        state.refuse = 503
        await connection.connect()
        connection.handle_incoming_message(b"early")
        await asyncio.sleep(0.2)
        state.refuse = None
        await until(lambda: browser.got == [b"early"])
        state.refuse = 503
        state.sockets[-1].close()
        await until(lambda: connection.ws is None)
        connection.handle_incoming_message(b"one")
        connection.handle_incoming_message("two")
        state.refuse = None
        await until(lambda: browser.got == [b"early", b"one", "two"])
        assert browser.closed is None
        assert len(state.opened) == 2
    with_gateway(test)


def message(msg_type, msg_id, parent=None, channel="shell"):
    return {"channel": channel, "header": {"msg_type": msg_type, "msg_id": msg_id},
            "parent_header": {"msg_id": parent} if parent else {}, "metadata": {}, "content": {}}


def legacy_with_buffers(dictionary):
    text = json.dumps(dictionary).encode()
    return struct.pack(">3I", 2, 12, 12 + len(text)) + text + b"\xff"


def v1(dictionary):
    return serialize_msg_to_ws_v1(dictionary, dictionary["channel"], lambda part: json.dumps(part).encode())


@pytest.mark.parametrize("framed", [json.dumps, legacy_with_buffers, v1])
def test_cells_without_a_reply_are_remembered(framed):
    cells = UnansweredCells(10_000)
    first, second = (framed(message("execute_request", name)) for name in ("a", "b"))
    for frame in (first, framed(message("kernel_info_request", "k")), second, first):
        cells.asked(frame)
    assert cells.frames() == [first, second]
    cells.heard(framed(message("status", "s", "a", "iopub")))
    cells.heard(framed(message("execute_reply", "r", "a", "iopub")))
    cells.heard(framed(message("execute_reply", "r", "of another")))
    assert cells.frames() == [first, second]
    cells.heard(framed(message("execute_reply", "r", "a")))
    assert cells.frames() == [second]


def test_what_is_no_message_is_passed_over():
    cells = UnansweredCells(10_000)
    rng = random.Random(7)
    frames = [v1(message("execute_request", "a")), legacy_with_buffers(message("execute_request", "a"))]
    cells.asked(json.dumps(message("execute_request", "kept")))
    for _ in range(3000):
        frame = bytearray(rng.choice(frames))
        del frame[rng.randrange(len(frame)):]
        for _ in range(rng.randrange(4)):
            if frame:
                frame[rng.randrange(len(frame))] = rng.randrange(256)
        cells.asked(bytes(frame))
        cells.heard(bytes(frame))
    for text in ("", "{", "[1]", "null", '{"header": 3}', '{"header": {"msg_type": "execute_request"}}',
                 '{"header": {"msg_type": "execute_request", "msg_id": []}}'):
        cells.asked(text)
        cells.heard(text)
    assert cells.frames()[0] == json.dumps(message("execute_request", "kept"))


def test_only_so_much_is_remembered():
    frame = json.dumps(message("execute_request", "a"))
    cells = UnansweredCells(len(frame) + 10)
    cells.asked(frame)
    cells.asked(json.dumps(message("execute_request", "b")))
    assert cells.frames() == [frame]


def test_cells_without_a_reply_are_sent_again():
    async def test(connection, browser, state):
        await connection.connect()
        cell, other = (json.dumps(message("execute_request", name)) for name in ("a", "b"))
        connection.handle_incoming_message(cell)
        connection.handle_incoming_message(other)
        await until(lambda: len(browser.got) == 2)
        state.sockets[-1].write_message(json.dumps(message("execute_reply", "r", "a")))
        await until(lambda: len(browser.got) == 3)
        state.sockets[-1].close()
        await until(lambda: len(state.opened) == 2 and len(state.heard) == 3)
        assert state.heard == [cell, other, other]
    with_gateway(test)


def test_too_much_that_waits_closes_the_browser():
    async def test(connection, browser, state):
        state.refuse = 503
        await connection.connect()
        connection.handle_incoming_message("x" * 600)
        assert browser.closed is None
        connection.handle_incoming_message("x" * 600)
        assert browser.closed[0] == 1012
    with_gateway(test, waiting_bytes_max=1000)


def test_a_kernel_that_is_gone_closes_the_browser():
    async def test(connection, browser, state):
        state.refuse = 404
        await connection.connect()
        await until(lambda: browser.closed)
        assert browser.closed[0] == 1012
    with_gateway(test)


def test_a_gateway_of_another_framing_gets_nothing():
    async def test(connection, browser, state):
        state.speaks_v1 = False
        await connection.connect()
        connection.handle_incoming_message(b"v1")
        await until(lambda: len(state.opened) > 1)
        assert state.heard == browser.got == []
        state.speaks_v1 = True
        await until(lambda: browser.got == [b"v1"])
    with_gateway(test)


def test_it_ends_with_the_browser():
    async def test(connection, browser, state):
        await connection.connect()
        await until(lambda: state.sockets)
        connection.disconnect()
        await until(lambda: state.sockets[0].ws_connection is None)
        await asyncio.sleep(0.2)
        assert len(state.opened) == 1
    with_gateway(test)
