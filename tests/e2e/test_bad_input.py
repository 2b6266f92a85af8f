"""Wrong tokens, broken messages, unknown and impossible things: a clear error, and no harm to others."""
import json
import struct
import sys
import uuid

import pytest
import websocket

import wire
from cluster import BINARY, Cluster, poll
from conversation import Closed, WsConversation
from conftest import running

NO_KERNEL = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module")
def bystander(cluster):
    """A kernel that must not notice any of this."""
    kernel_id = cluster.start_kernel()
    cluster.wait_replicas(kernel_id)
    with cluster.connect(kernel_id) as conversation:
        conversation.execute("count = 0")
        yield conversation
    cluster.forget(kernel_id)


@pytest.fixture(autouse=True)
def others_are_unharmed(bystander):
    before = int(bystander.execute("count += 1\ncount").text)
    yield
    run = bystander.execute("count")
    assert (run.status, run.text, run.statuses) == ("ok", str(before), ["busy", "idle"])


REST_CALLS = [("GET", "/api/kernels"), ("POST", "/api/kernels"), ("GET", "/api/kernelspecs"),
              ("GET", f"/api/kernels/{NO_KERNEL}"), ("DELETE", f"/api/kernels/{NO_KERNEL}"),
              ("POST", f"/api/kernels/{NO_KERNEL}/interrupt"), ("GET", "/api/sessions"),
              ("POST", f"/api/kernels/{NO_KERNEL}/restart"), ("POST", "/api/sessions"),
              ("GET", "/api/status"), ("GET", "/api/me")]


@pytest.mark.parametrize("method, path", REST_CALLS)
@pytest.mark.parametrize("token", [None, "", "wrong", "e2e-toke", "e2e-token2"])
def test_rest_without_the_token_is_401(cluster, method, path, token):
    status, body = cluster.call(method, path, {} if method == "POST" else None, token=token)
    assert status == 401
    assert body["message"]


def test_a_wrong_token_in_query_or_path_is_401(cluster):
    assert cluster.call("GET", "/api/kernels?token=wrong", token=None)[0] == 401
    assert cluster.call("GET", "/t/wrong/api/kernels", token=None)[0] == 401


@pytest.mark.parametrize("token, in_header", [(None, True), ("wrong", True), ("wrong", False)])
def test_a_websocket_without_the_token_is_401(cluster, kernel, token, in_header):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        WsConversation(cluster.url, kernel, token, header_token=in_header)
    assert refused.value.status_code == 401


def test_unknown_kernels_and_pages_are_404(cluster):
    for method, path in [("GET", f"/api/kernels/{NO_KERNEL}"),
                         ("DELETE", f"/api/kernels/{NO_KERNEL}"),
                         ("POST", f"/api/kernels/{NO_KERNEL}/interrupt"),
                         ("POST", f"/api/kernels/{NO_KERNEL}/restart"),
                         ("GET", f"/api/sessions/{NO_KERNEL}"),
                         ("GET", "/api/kernelspecs/no-such-spec"), ("GET", "/api/no-such-page")]:
        status, body = cluster.call(method, path)
        assert status == 404, (method, path, status, body)
        assert body["message"], (method, path)
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        cluster.connect(NO_KERNEL)
    assert refused.value.status_code == 404


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff\xfe", b'{"name": 7}', b'{"env": {"A": 1}}',
                                  b'{"env": "x"}', b'{"name": "no-such-spec"}'])
def test_a_broken_request_for_a_kernel_is_refused(cluster, body):
    before = {m["id"] for m in cluster.call("GET", "/api/kernels")[1]}
    status, answer = cluster.call("POST", "/api/kernels", body)
    assert 400 <= status < 500 or (status == 501 and b"spec" in body)
    assert answer["message"]
    assert {m["id"] for m in cluster.call("GET", "/api/kernels")[1]} == before


def message(msg_type="kernel_info_request", channel="shell", **header):
    full = {"msg_id": uuid.uuid4().hex, "msg_type": msg_type, "session": "s", "username": "u",
            "date": "2026-01-01T00:00:00.000000Z", "version": "5.3", **header}
    return {"channel": channel, "header": full, "parent_header": {}, "metadata": {}, "content": {},
            "buffers": []}


def v1_parts(*parts):
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


GOOD = wire.encode_v1(message())
BROKEN_V1 = {
    "empty": b"",
    "three bytes": b"abc",
    "count of 2**63": struct.pack("<Q", 2 ** 63) + GOOD[8:],
    "count of 2**61 + 7": struct.pack("<Q", 2 ** 61 + 7) + GOOD[8:],
    "count of zero": struct.pack("<Q", 0) + GOOD[8:],
    "count of one": struct.pack("<QQ", 1, 16),
    "an offset beyond the end": GOOD[:24] + struct.pack("<Q", len(GOOD) * 9) + GOOD[32:],
    "offsets that go back": GOOD[:24] + struct.pack("<Q", 1) + GOOD[32:],
    "cut short": GOOD[:-10],
    "too few parts": v1_parts(b"shell", b"{}", b"{}"),
    "broken header": v1_parts(b"shell", b"{", b"{}", b"{}", b"{}"),
    "header is a list": v1_parts(b"shell", b"[]", b"{}", b"{}", b"{}"),
    "broken content": v1_parts(b"shell", json.dumps(message()["header"]).encode(), b"{}", b"{}",
                               b"{]"),
    "invalid UTF-8": v1_parts(b"\xff\xfe", b"\xff", b"{}", b"{}", b"{}"),
    "unknown channel": wire.encode_v1(message(channel="hotline")),
    "iopub from a client": wire.encode_v1(message("status", "iopub")),
    "unknown msg_type": wire.encode_v1(message("make_me_a_sandwich")),
    "no msg_id": wire.encode_v1({**message(), "header": {"msg_type": "execute_request"}}),
    "text in a v1 socket": "{}",
    "an execute_request without code": wire.encode_v1(message("execute_request")),
}
BROKEN_LEGACY = {
    "empty": "",
    "no JSON": "hello",
    "half of it": '{"header": {',
    "a list": "[]",
    "no header": '{"channel": "shell"}',
    "header is text": '{"channel": "shell", "header": "x"}',
    "unknown channel": wire.encode_legacy(message(channel="hotline")),
    "unknown msg_type": wire.encode_legacy(message("make_me_a_sandwich")),
    "binary with a count of 2**32 - 1": b"\xff\xff\xff\xff" + b"\x00" * 12,
    "binary with an offset beyond the end": struct.pack(">II", 1, 9999) + b"{}",
    "binary of three bytes": b"\x00\x00\x00",
    "deep nesting": '{"channel":"shell","content":' + "[" * 200_000 + "]" * 200_000 + "}",
}


@pytest.mark.parametrize("framing, what", [("v1", w) for w in BROKEN_V1]
                         + [("legacy", w) for w in BROKEN_LEGACY])
def test_a_malformed_message_harms_nobody(cluster, shared_kernel, framing, what):
    """The sender may lose its own socket, but neither the kernel nor another client notices."""
    payload = (BROKEN_V1 if framing == "v1" else BROKEN_LEGACY)[what]
    with cluster.connect(shared_kernel) as other, \
            cluster.connect(shared_kernel, framing=framing) as sender:
        sender.send_raw(payload)
        try:
            assert sender.execute("'mine'", timeout=30).text == "'mine'"
        except (Closed, ConnectionError) as closed:
            assert getattr(closed, "code", None) in (None, 1002, 1003, 1007, 1008, 1009), closed
        assert other.execute("'still here'", timeout=30).text == "'still here'"


@pytest.fixture(scope="module")
def shared_kernel(cluster):
    kernel_id = cluster.start_kernel()
    cluster.wait_replicas(kernel_id)
    yield kernel_id
    cluster.forget(kernel_id)


def test_a_repeated_execute_request_runs_once(cluster, kernel):
    with cluster.connect(kernel) as conversation:
        conversation.execute("runs = 0")
        request = message("execute_request")
        request["header"]["session"] = conversation.session
        request["content"] = {"code": "runs += 1", "silent": False, "store_history": True,
                              "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
        for _ in range(2):
            conversation.send_message(request)
        conversation.finish(request["header"]["msg_id"])
        conversation.drain(0.5)
        assert conversation.execute("runs").text == "1"


@pytest.fixture
def two_hosts(cluster_folder):
    yield from running(Cluster(cluster_folder / "two", hosts=2), "two")


def test_too_few_hosts_is_a_clear_503(two_hosts):
    status, body = two_hosts.call("POST", "/api/kernels", {})
    assert status == 503
    assert "host" in body["message"] and "3" in body["message"] and "2" in body["message"]
    # The rest of it serves.
    assert two_hosts.call("GET", "/api/kernels") == (200, [])


def test_hosts_that_are_down_do_not_count(cluster):
    """Two of four are gone: no place for three replicas, and running kernels with two left go on."""
    hosts = [row["id"] for row in cluster.host_rows()]
    kernel_id = cluster.start_kernel()
    cluster.wait_replicas(kernel_id)
    with cluster.connect(kernel_id) as conversation:
        conversation.execute("x = 1")
        used = {r["host"] for r in cluster.kernel_row(kernel_id)["replicas"]}
        victims = [next(h for h in hosts if h not in used), sorted(used)[0]]
        try:
            for host in victims:
                cluster.kill_host(host)
            status, body = poll("it is refused",
                                lambda: (lambda r: r if r[0] == 503 else None)(
                                    cluster.call("POST", "/api/kernels", {})), 60, 1)
            assert "host" in body["message"]
            assert conversation.execute("x + 1", timeout=60).text == "2"
        finally:
            for host in victims:
                cluster.start_host(host)
            poll("all hosts are up", cluster.all_hosts_up)
    cluster.forget(kernel_id)


def test_a_second_up_and_a_taken_port_say_what_to_do(cluster, cluster_folder):
    again = cluster.cli("up", "--detach", "--no-lab", "--port", cluster.port + 1, "--token", "x",
                        "--hosts", 1, check=False)
    assert again.returncode != 0
    assert "nbos down" in again.stderr + again.stdout
    other = Cluster(cluster_folder / "other")
    taken = other.cli("up", "--detach", "--no-lab", "--port", cluster.port, "--token", "x",
                      "--hosts", 1, check=False)
    assert taken.returncode != 0
    assert str(cluster.port) in taken.stderr + taken.stdout
    assert "--port" in taken.stderr + taken.stdout


@pytest.mark.parametrize("arguments", [
    ("kernel", "migrate", NO_KERNEL), ("kernel", "kill-replica", NO_KERNEL),
    ("kernel", "restart", NO_KERNEL), ("host", "kill", "no-such-host"),
    ("host", "start", "no-such-host"), ("kernel", "fly"), ("nonsense",)])
def test_commands_about_unknown_things_fail_and_say_so(cluster, arguments):
    result = cluster.cli(*arguments, check=False)
    assert result.returncode != 0
    assert arguments[-1] in result.stderr + result.stdout, BINARY


@pytest.fixture(scope="module")
def further_kernelspecs(cluster_folder):
    """A cluster whose user has put kernelspecs into its data directory."""
    cluster = Cluster(cluster_folder / "specs", hosts=3)
    broken_python = cluster_folder / "broken-python"
    broken_python.write_text("#!/bin/sh\necho 'libnothing.so.7: cannot open' >&2\nexit 3\n")
    broken_python.chmod(0o755)
    specs = {"missing": {"argv": ["/no/such/python", "-f", "{connection_file}"]},
             "broken": {"argv": [str(broken_python), "-f", "{connection_file}"]},
             "flavoured": {"argv": [sys.executable, "-f", "{connection_file}"],
                           "env": {"FLAVOUR": "vanilla", "PATH": "/flavour/bin:${PATH}"}},
             "ir": {"argv": ["R"], "language": "R"}, "no-argv": {}}
    for name, spec in specs.items():
        folder = cluster.data / "kernels" / name
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps({"display_name": name, **spec}))
    yield from running(cluster, "specs")


@pytest.mark.parametrize("spec, reason", [("missing", "/no/such/python"),
                                          ("broken", "libnothing.so.7: cannot open")])
def test_a_kernelspec_that_does_not_start_says_why(further_kernelspecs, spec, reason):
    kernel_id = further_kernelspecs.start_kernel(spec)
    good = further_kernelspecs.start_kernel()
    with further_kernelspecs.connect(kernel_id) as conversation:
        run = conversation.execute("1 + 1", timeout=120)
        assert run.status == "error" and reason in run.error[1], run
    with further_kernelspecs.connect(good) as conversation:
        assert conversation.execute("1 + 1").text == "2"
    assert reason in json.dumps(further_kernelspecs.kernel_row(kernel_id))
    further_kernelspecs.forget(kernel_id)


def test_a_kernelspec_of_the_users_brings_its_environment(further_kernelspecs):
    kernel_id = further_kernelspecs.start_kernel("flavoured")
    with further_kernelspecs.connect(kernel_id) as conversation:
        run = conversation.execute("import os; os.environ['FLAVOUR'], os.environ['PATH'][:13]")
        assert run.text == "('vanilla', '/flavour/bin:')"


def test_kernelspecs_that_cannot_be_offered_are_left_out(further_kernelspecs):
    offered = further_kernelspecs.call("GET", "/api/kernelspecs")[1]["kernelspecs"]
    assert set(offered) == {"python3", "missing", "broken", "flavoured"}
    log = (further_kernelspecs.data / "logs" / "gateway.log").read_text()
    assert "only Python kernels" in log and "needs a list argv" in log
