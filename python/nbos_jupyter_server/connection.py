"""A kernel's WebSocket from a browser through jupyter_server to the gateway, whole.

jupyter_server's own GatewayWebSocketConnection speaks only the legacy framing, decodes binary frames as
UTF-8 and stops reading when one is not (ipywidgets issue 3798), sends binary frames on as text, closes
at messages above 10 MiB, and forgets what the browser sends while the gateway is away. This one passes
every frame on as it came, in the framing that the browser asked for, keeps what the browser sends until
the gateway is back, and then sends the cells again that nobody has answered (the gateway runs a cell
once, however often it is sent). It changes nothing else of jupyter_server:

    jupyter lab --gateway-url=URL \\
        --ServerApp.kernel_websocket_connection_class=nbos_jupyter_server.connection.Connection

Source: jupyter_server, gateway/connections.py and services/kernels/websocket.py (2.14 to 2.17); "WebSocket
kernel wire protocols" of its documentation.
"""
import asyncio
import random
from collections import deque

from jupyter_server.gateway.connections import GatewayWebSocketConnection
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.utils import url_path_join
from tornado import websocket
from tornado.escape import url_escape
from tornado.httpclient import HTTPClientError, HTTPRequest
from traitlets import Int, Unicode

from nbos_jupyter_server.unanswered_cells import UnansweredCells

SUBPROTOCOL_V1 = "v1.kernel.websocket.jupyter.org"
CLOSED_TRY_AGAIN = 1012   # "service restart": the browser connects again


class Connection(GatewayWebSocketConnection):
    """One browser's connection to one kernel. Runs on jupyter_server's loop."""

    # None: the browser gets v1 when it offers it.
    kernel_ws_protocol = Unicode(None, allow_none=True, config=True)
    message_bytes_max = Int(128 << 20, config=True, help="The longest message of the gateway, in bytes.")
    waiting_bytes_max = Int(
        32 << 20, config=True,
        help="How much of what the browser sends is kept while the gateway is away, in bytes.")
    ping_interval = Int(15, config=True, help="Between two pings to the gateway, in seconds.")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._waiting = deque()     # (message, binary) from the browser, oldest first
        self._waiting_bytes = 0
        self._cells = UnansweredCells(self.waiting_bytes_max)
        self._task = None

    async def connect(self):
        """Begins to relay; returns at once. What fails is tried again until the browser goes."""
        self._task = asyncio.ensure_future(self._relay())

    def disconnect(self):
        """The browser has gone."""
        self.disconnected = True
        if self._task is not None:
            self._task.cancel()
        if self.ws is not None:
            self.ws.close()

    def handle_incoming_message(self, message):
        """`message`: str for a text frame, bytes for a binary one, of the browser."""
        if self.ws is not None:
            try:
                self._send(message)
                return
            except websocket.WebSocketClosedError:
                self.ws = None
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        if self._waiting_bytes > self.waiting_bytes_max:
            self.log.warning("Kernel %s: more than %d bytes wait for the gateway, which is away; closing "
                             "the browser's connection", self.kernel_id, self.waiting_bytes_max)
            self.websocket_handler.close(CLOSED_TRY_AGAIN, "the gateway is away")
            self.disconnect()

    async def _relay(self):
        while not self.disconnected:
            try:
                self.ws = await websocket.websocket_connect(
                    self._request(), subprotocols=self._subprotocols(), ping_interval=self.ping_interval,
                    max_message_size=self.message_bytes_max)
                self._check_framing()
                self.retry = 0
                for message in self._cells.frames():
                    self._write(message)
                self._send_waiting()
                await self._read()
            except HTTPClientError as error:
                if error.code == 404:      # the browser asks for the kernel and hears that it is gone
                    self.websocket_handler.close(CLOSED_TRY_AGAIN, "the kernel is not there")
                    return
                self._say(error)
            except (OSError, websocket.WebSocketError) as error:
                self._say(error)
            self.ws = None
            await asyncio.sleep(self._pause())

    def _request(self):
        client = GatewayClient.instance()
        url = url_path_join(client.ws_url or "", client.kernels_endpoint, url_escape(self.kernel_id),
                            "channels")
        if self.session_id:
            url += f"?session_id={url_escape(self.session_id)}"
        return HTTPRequest(url, **{"user_agent": "nbos-jupyter-server", **client.load_connection_args()})

    def _subprotocols(self):
        chosen = self.websocket_handler.selected_subprotocol
        return [chosen] if chosen else None

    def _check_framing(self):
        if (self.ws.selected_subprotocol or None) != (self.websocket_handler.selected_subprotocol or None):
            self.ws.close()
            raise OSError("the gateway does not speak the framing of the browser, "
                          f"{self.websocket_handler.selected_subprotocol or 'the legacy one'}")

    def _send_waiting(self):
        while self._waiting:
            self._send(self._waiting[0])
            self._waiting_bytes -= len(self._waiting.popleft())

    def _send(self, message):
        self._write(message)
        self._cells.asked(message)

    def _write(self, message):
        written = self.ws.write_message(message, binary=isinstance(message, bytes))
        written.add_done_callback(lambda done: done.cancelled() or done.exception())  # _read hears it too

    async def _read(self):
        while True:
            message = await self.ws.read_message()
            if message is None:
                self.log.warning("Lost the connection to the gateway: kernel %s", self.kernel_id)
                return
            self._cells.heard(message)
            try:
                # Waits for a browser that reads slowly; the gateway then waits for us.
                await self.websocket_handler.write_message(message, binary=isinstance(message, bytes))
            except websocket.WebSocketClosedError:
                return

    def _pause(self):
        client = GatewayClient.instance()
        pause = min(client.gateway_retry_interval * 2 ** self.retry, client.gateway_retry_interval_max)
        self.retry = min(self.retry + 1, 16)
        return pause * random.uniform(0.1, 1.0)

    def _say(self, error):
        self.log.warning("Kernel %s: no connection to the gateway (%s); trying again", self.kernel_id, error)
