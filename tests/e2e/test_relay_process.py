"""`nbos kernel-relay` as a process: how it starts and ends, what it does when the gateway is away,
and what it says to bad input."""
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import uuid

import pytest

from cluster import BINARY, poll
from local_kernel import Relay, conversation_with


@pytest.fixture
def relays(cluster, tmp_path):
    """Starts relays by hand; they end with the test."""
    started = []

    def start(*options, **more):
        started.append(Relay(cluster, tmp_path, *options, **more))
        return started[-1]
    yield start
    for relay in started:
        relay.stop()


def ids(cluster):
    return {row["id"] for row in cluster.kernel_rows()}


def kernel_of(cluster, before):
    (kernel_id,) = ids(cluster) - before
    return kernel_id


# ---- transports and keys ----

@pytest.mark.parametrize("connection", [{}, {"key": ""}, {"transport": "ipc"}],
                         ids=["tcp", "unsigned", "ipc"])
def test_every_kind_of_connection_file(relays, tmp_path_factory, connection):
    if connection.get("transport") == "ipc":
        folder = tmp_path_factory.mktemp("ipc")
        connection = {**connection, "ip": str(folder / "k"),
                      **{f"{name}_port": number for number, name in enumerate(
                          ("shell", "iopub", "stdin", "control", "hb"), 1)}}
    with relays(**connection).client() as client:
        assert conversation_with(client).execute("6 * 7").text == "42"
        assert client.hb_channel.is_beating()


def test_a_wrong_signature_is_dropped_and_logged(relays):
    relay = relays()
    with relay.client() as good:
        with relay.client(ready=False, key=b"not the key") as bad:
            bad.execute("open('/tmp/never', 'w')")
            with pytest.raises(Exception):
                bad.get_shell_msg(timeout=1)
        assert conversation_with(good).execute("1").count == 1, "the other cell ran"
    relay.process.terminate()
    code, said = relay.wait()
    assert code == 0 and "the signature is wrong" in said and relay.connection["key"] not in said


# ---- the end ----

def test_sigterm_deletes_its_kernel(cluster, relays):
    before = ids(cluster)
    relay = relays()
    with relay.client() as client:
        conversation_with(client).execute("1")
        kernel_of(cluster, before)
    relay.process.terminate()
    assert relay.wait()[0] == 0
    assert ids(cluster) == before


def test_a_killed_relay_leaves_no_kernel(cluster, relays):
    before = ids(cluster)
    relay = relays()
    with relay.client() as client:
        conversation_with(client).execute("1")
    relay.process.kill()
    relay.process.stderr.close()
    relay.process.wait()
    poll("its kernel is deleted", lambda: ids(cluster) == before, 60, 0.5)


def test_it_ends_with_the_process_that_started_it(cluster, relays, tmp_path):
    before = ids(cluster)
    relay = relays()   # only for its connection file
    relay.stop()
    parent = subprocess.Popen(
        ["/bin/sh", "-c", f"JPY_PARENT_PID=$$ '{BINARY}' kernel-relay -f '{relay.file}' "
         f"--data '{cluster.data}' & sleep 600"], start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        with relay.client() as client:
            conversation_with(client).execute("1")
            assert ids(cluster) != before
            parent.kill()
            poll("its kernel is deleted", lambda: ids(cluster) == before, 30, 0.5)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def test_an_existing_kernel_is_attached_to_and_stays(cluster, relays):
    kernel_id = cluster.start_kernel()
    try:
        with cluster.connect(kernel_id) as other:
            other.execute("x = 20")
            relay = relays(environment={"KERNEL_ID": kernel_id})
            with relay.client() as client:
                assert conversation_with(client).execute("x + 1").text == "21"
                assert other.execute("x + 2").text == "22"
            relay.process.terminate()
            assert relay.wait()[0] == 0
            assert other.execute("x + 3").text == "23"
    finally:
        cluster.forget(kernel_id)


def test_the_environment_reaches_the_kernel(cluster, relays, tmp_path):
    kernel_id = str(uuid.uuid4())
    before = ids(cluster)
    relay = relays("--spec", "python3", environment={
        "KERNEL_ID": kernel_id, "KERNEL_REPLICAS": "1", "KERNEL_FLAVOUR": "ash", "FLAVOUR": "oak",
        "KERNEL_WORKING_DIR": str(tmp_path)})
    with relay.client() as client:
        assert kernel_of(cluster, before) == kernel_id
        code = "import os; print(os.environ['KERNEL_FLAVOUR'], os.environ.get('FLAVOUR'), os.getcwd())"
        assert conversation_with(client).execute(code).text == f"ash None {tmp_path}\n"
        assert len(cluster.kernel_row(kernel_id)["replicas"]) == 1
    relay.process.terminate()
    assert relay.wait()[0] == 0
    assert ids(cluster) == before, "it made this kernel, so it deletes it"


def test_a_kernel_that_is_deleted_elsewhere_is_dead(cluster, relays):
    before = ids(cluster)
    relay = relays()
    with relay.client() as client:
        conversation = conversation_with(client)
        conversation.execute("1")
        waiting = conversation.submit("import time; time.sleep(60)")
        conversation.wait_for(lambda m: m["header"]["msg_type"] == "execute_input"
                              and m["parent_header"]["msg_id"] == waiting)
        cluster.forget(kernel_of(cluster, before))
        reply = conversation.wait_for(lambda m: m["header"]["msg_type"] == "execute_reply"
                                      and m["parent_header"]["msg_id"] == waiting)
        assert reply["content"]["status"] == "error"
        conversation.wait_for(lambda m: m["content"].get("execution_state") == "dead")
    code, said = relay.wait()
    assert code == 1 and "does not exist" in said


# ---- the gateway is away ----

def test_a_gateway_that_is_killed_in_the_middle_of_a_cell(cluster, relays):
    with relays().client() as client:
        conversation = conversation_with(client)
        conversation.execute("x = 1")
        code = ("import time, sys\nfor i in range(40):\n    print(i)\n    sys.stdout.flush()\n"
                "    time.sleep(0.1)\nx += 1")
        began = time.monotonic()
        done = conversation.execute(code, timeout=90, during=lambda _: cluster.kill_gateway())
        print(f"the cell of 4 s took {time.monotonic() - began:.1f} s")
        assert done.status == "ok" and done.statuses == ["busy", "idle"] and len(done.inputs) == 1
        lines = done.text.split()
        # What was printed while no gateway was there comes with the cell's end, behind the rest.
        assert sorted(map(int, lines)) == list(range(40)), "each line once"
        assert client.hb_channel.is_beating()
        assert conversation.execute("x", timeout=60).text == "2", "the cell ran once"
    poll("all hosts are back", cluster.all_hosts_up, 60)


def test_requests_are_kept_while_the_gateway_is_away(cluster, relays):
    with relays().client() as client:
        conversation = conversation_with(client)
        conversation.execute("seen = []")
        cluster.kill_gateway()
        asked = [conversation.submit(f"seen.append({n}); print(seen)") for n in range(5)]
        heard = {msg_id: [] for msg_id in asked}   # sockets are not ordered among each other

        def take():
            with contextlib.suppress(TimeoutError):
                message = conversation.receive(1)
                kind, content = message["header"]["msg_type"], message["content"]
                heard.get(message["parent_header"].get("msg_id"), []).append(
                    content.get("text") or content.get("execution_state") or kind)
            return all({"idle", "execute_reply"} <= set(lines) for lines in heard.values())
        poll("all are done", take, 90, 0)
        for n, msg_id in enumerate(asked):
            assert sorted(heard[msg_id]) == sorted(
                ["busy", "execute_input", f"{list(range(n + 1))}\n", "execute_reply", "idle"])
    poll("all hosts are back", cluster.all_hosts_up, 60)


class Cable:
    """A TCP proxy in front of the gateway whose connections can be cut."""

    def __init__(self, port):
        self.target = port
        self.pairs = []
        self.accepted = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self.pairs.append((near, far))
                self.accepted += 1
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    @staticmethod
    def _carry(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        for pair in self.pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self.pairs = []

    def close(self):
        self.cut()
        self.listener.close()


@pytest.fixture
def cable(cluster):
    cable = Cable(cluster.port)
    yield cable
    cable.close()


def test_a_lost_connection_is_made_again(cluster, relays, cable):
    """The gateway lives; only the TCP connection breaks, in the middle of a cell."""
    relay = relays("--gateway", cable.url, environment={"NBOS_TOKEN": cluster.token})
    with relay.client() as client:
        conversation = conversation_with(client)
        conversation.execute("x = 1")
        for _ in range(3):
            accepted = cable.accepted
            code = ("import time, sys\nfor i in range(10):\n    print(i)\n    sys.stdout.flush()\n"
                    "    time.sleep(0.05)\nx += 1")
            done = conversation.execute(code, timeout=60, during=lambda _: cable.cut())
            assert done.text.split() == [str(i) for i in range(10)], "each line once, in order"
            assert done.statuses == ["busy", "idle"] and done.status == "ok"
            poll("it has connected again", lambda: cable.accepted > accepted, 30)
        assert conversation.execute("x", timeout=60).text == "4", "each cell ran once"


def test_a_reply_that_was_said_meanwhile_arrives(cluster, relays, cable):
    relay = relays("--gateway", cable.url, environment={"NBOS_TOKEN": cluster.token})
    with relay.client() as client:
        conversation = conversation_with(client)
        code = "import time\nprint('on', flush=True)\nx = globals().get('x', 0) + 1"
        for n in range(5):
            done = conversation.execute(code, timeout=60, during=lambda _: cable.cut())
            assert done.status == "ok" and done.text == "on\n"
        assert conversation.execute("x", timeout=60).text == "5"


def test_an_input_survives_a_lost_connection(cluster, relays, cable):
    relay = relays("--gateway", cable.url, environment={"NBOS_TOKEN": cluster.token})
    with relay.client() as client:
        conversation = conversation_with(client)
        for _ in range(5):
            done = conversation.execute("print('go', flush=True)\nprint(input('? ') * 2)",
                                        answers=["ab"], timeout=60, during=lambda _: cable.cut())
            assert done.text == "go\nabab\n"


def test_a_question_that_waits_is_asked_once_and_its_answer_goes_on(cluster, relays, cable):
    relay = relays("--gateway", cable.url, environment={"NBOS_TOKEN": cluster.token})
    with relay.client() as client:
        conversation = conversation_with(client)
        cell = conversation.submit("print(input('? ') * 2)")
        question = conversation.wait_for(lambda m: m["header"]["msg_type"] == "input_request")
        accepted = cable.accepted
        cable.cut()
        poll("it has connected again", lambda: cable.accepted > accepted, 30)
        assert not [m for m in conversation.drain(1.0)
                    if m["header"]["msg_type"] == "input_request"], "its user sees it already"
        conversation.send("input_reply", {"value": "ab", "status": "ok"}, "stdin",
                          question["header"])
        assert conversation.finish(cell, timeout=60).text == "abab\n"


# ---- bad input ----

def relay_says(*arguments, environment=None, folder=None):
    """(exit code, standard error) of a relay that cannot start."""
    done = subprocess.run([BINARY, "kernel-relay", *map(str, arguments)], capture_output=True,
                          text=True, timeout=60, stdin=subprocess.DEVNULL,
                          env={**os.environ, **(environment or {})}, cwd=folder)
    return done.returncode, done.stderr


GOOD = {"shell_port": 51001, "iopub_port": 51002, "stdin_port": 51003, "control_port": 51004,
        "hb_port": 51005, "key": "a-secret", "ip": "127.0.0.1", "transport": "tcp",
        "signature_scheme": "hmac-sha256"}


@pytest.mark.parametrize("text, says", [
    ("{", "no JSON object"),
    (json.dumps({**GOOD, "shell_port": 0}), "shell_port"),
    (json.dumps({**GOOD, "signature_scheme": "hmac-sha1"}), "hmac-sha256"),
    (json.dumps({**GOOD, "transport": "udp"}), "use tcp or ipc"),
    (json.dumps({**GOOD, "ip": "192.0.2.1"}), "cannot bind tcp://192.0.2.1:51001"),
])
def test_a_bad_connection_file_is_explained(cluster, tmp_path, text, says):
    file = tmp_path / "kernel.json"
    file.write_text(text)
    code, said = relay_says("-f", file, "--data", cluster.data)
    assert code == 1 and says in said and str(file) in said and "a-secret" not in said


def test_what_is_missing_is_named(cluster, tmp_path):
    code, said = relay_says("-f", tmp_path / "none.json", "--data", cluster.data)
    assert code == 1 and "there is no connection file" in said
    file = tmp_path / "kernel.json"
    file.write_text(json.dumps(GOOD))
    code, said = relay_says("-f", file, "--data", tmp_path / "nothing")
    assert code == 1 and "nbos up" in said
    code, said = relay_says("-f", file, "--gateway", "http://127.0.0.1:9", "--data",
                            tmp_path / "nothing")
    assert code == 1 and "--token-file" in said
    code, said = relay_says("-f", file, "--gateway", "ftp://x")
    assert code == 1 and "http://HOST:PORT" in said
    assert relay_says()[0] == 2


def test_a_refusal_of_the_gateway_is_passed_on(cluster, relays, tmp_path):
    for options, environment, says in [
            (("--spec", "fortran"), {}, "no kernelspec is named 'fortran'"),
            (("--gateway", cluster.url), {"NBOS_TOKEN": "wrong"}, "refuses the token"),
            ((), {"KERNEL_REPLICAS": "2"}, "KERNEL_REPLICAS must be 1, 3 or 5")]:
        code, said = relays(*options, environment=environment).wait(60)
        assert code == 1 and says in said and "wrong" not in said.replace("is wrong", "")
    assert relay_says("-f", relays().file, "--data", cluster.data,
                      environment={"KERNEL_ID": "seven"})[1].count("no UUID") == 1


def test_the_token_of_the_cluster_goes_to_its_own_gateway_only(cluster, relays, tmp_path):
    """A relay that is pointed elsewhere asks for a token instead of giving this one away."""
    import http.server
    heard = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append(self.headers)
            self.send_error(404)
        log_message = do_POST = lambda *_: None
    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code, said = relays("--gateway", f"http://127.0.0.1:{server.server_port}").wait()
        server.shutdown()
    assert code == 1 and "no token for" in said and not heard


# ---- kernelspecs ----

def kernelspec(*arguments, **environment):
    return subprocess.run([BINARY, "kernelspec", *map(str, arguments)], capture_output=True,
                          text=True, timeout=60, stdin=subprocess.DEVNULL,
                          env={**os.environ, **environment})


def test_a_kernelspec_comes_and_goes(tmp_path):
    token = tmp_path / "t"
    token.write_text("secret")
    done = kernelspec("install", "--name", "cluster-a", "--display-name", "Cluster A", "--gateway",
                      "http://10.0.0.7:8889", "--spec", "python3", "--token-file", token,
                      JUPYTER_DATA_DIR=str(tmp_path))
    folder = tmp_path / "kernels" / "cluster-a"
    assert done.returncode == 0 and str(folder) in done.stdout
    spec = json.loads((folder / "kernel.json").read_text())
    assert spec["argv"][1:] == ["kernel-relay", "-f", "{connection_file}", "--gateway",
                                "http://10.0.0.7:8889", "--token-file", str(token),
                                "--spec", "python3"]
    assert os.access(spec["argv"][0], os.X_OK) and os.path.isabs(spec["argv"][0])
    assert (spec["display_name"], spec["language"], spec["interrupt_mode"]) == (
        "Cluster A", "python", "message")
    assert (folder / "logo-svg.svg").read_text().startswith("<svg")
    assert kernelspec("install", "--name", "cluster-a",
                      JUPYTER_DATA_DIR=str(tmp_path)).returncode == 0, "over an older one"
    assert kernelspec("remove", "--name", "cluster-a",
                      JUPYTER_DATA_DIR=str(tmp_path)).returncode == 0
    assert not folder.exists()


@pytest.mark.parametrize("arguments, says", [
    (["install", "--name", "../x"], "--name may have"),
    (["install", "--prefix", "/nonexistent"], "is no directory"),
    (["install", "--user", "--prefix", "/"], "not both"),
    (["install", "--gateway", "10.0.0.7"], "http://HOST:PORT"),
    (["install", "--gateway", "http://10.0.0.7:1/t/secret"], "must not hold a token"),
    (["install", "--gateway", "http://me:secret@10.0.0.7:1"], "must not hold a token"),
    (["install", "--gateway", "http://10.0.0.7:1/?token=secret"], "must not hold a token"),
    (["install", "--token-file", "/nonexistent"], "is no file"),
    (["install", "--display-name", "\udcff"], "not UTF-8"),
    (["install", "--name", "theirs"], "choose another --name"),
    (["remove", "--name", "theirs"], "not removed"),
    (["remove", "--name", "none"], "jupyter kernelspec list"),
])
def test_a_bad_kernelspec_command_is_explained(tmp_path, arguments, says):
    theirs = tmp_path / "kernels" / "theirs"
    theirs.mkdir(parents=True)
    (theirs / "kernel.json").write_text('{"argv": ["python"]}')
    done = kernelspec(*arguments, JUPYTER_DATA_DIR=str(tmp_path))
    assert done.returncode == 1 and says in done.stderr
    assert not re.search(r"Installed|Removed", done.stdout) and theirs.exists()
