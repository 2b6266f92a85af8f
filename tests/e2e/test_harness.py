"""The harness itself, tried on stock Jupyter: what fails here says nothing about NotebookOS."""
import pytest

import wire
from conversation import WsConversation
from notebooks import differences, run_notebook
from stock import stock_kernel


@pytest.fixture
def stock_kernel_id(stock_server, tmp_path):
    kernel_id = stock_server.start_kernel()
    yield kernel_id
    stock_server.call("DELETE", f"/api/kernels/{kernel_id}")


@pytest.mark.parametrize("encode, decode", [(wire.encode_v1, wire.decode_v1),
                                            (wire.encode_legacy, wire.decode_legacy)])
def test_framings_round_trip(encode, decode):
    message = {"channel": "shell", "header": {"msg_id": "a", "msg_type": "é"}, "parent_header": {},
               "metadata": {}, "content": {"x": [1, None]}, "buffers": [b"", b"\x00\xff"]}
    back = decode(encode(message))
    assert {name: back[name] for name in message} == message


@pytest.mark.parametrize("framing", ["v1", "legacy"])
def test_both_framings_run_a_cell(stock_server, stock_kernel_id, framing):
    with WsConversation(stock_server.url, stock_kernel_id, stock_server.token,
                        framing=framing) as conversation:
        run = conversation.execute("print(input('? ') * 2)", ["ab"])
        assert (run.status, run.text, run.count) == ("ok", "abab\n", 1)
        assert run.statuses == ["busy", "idle"]
        assert len(run.sessions) == 1


def test_a_difference_is_found(tmp_path):
    with stock_kernel(tmp_path) as conversation:
        first = run_notebook("12_recursion_and_caching", conversation, tmp_path)
    changed = [dict(result) for result in first]
    changed[3] = {**changed[3], "execution_count": 99}
    assert not differences("12_recursion_and_caching", first, first)
    assert "code cell 3 differs in execution_count" in differences(
        "12_recursion_and_caching", first, changed)
