"""With --json every command that fails says so as a JSON object on standard output."""
import json
import os
import re
import subprocess

import pytest

from cluster import BINARY

NO_KERNEL = "11111111-2222-3333-4444-555555555555"
NOT_FOR_PROGRAMS = {"agent", "gateway", "kernel-relay"}   # they run until they are stopped, and log


def nbos(*arguments, environment=None):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})})


def commands(*above):
    """All commands that do something, as tuples, from the help."""
    text = nbos(*above, "--help").stdout
    _, found, listed = text.partition("Subcommands:")
    names = re.findall(r"^  ([a-z][a-z-]+) ", listed, re.M) if found else []
    return [command for name in names for command in commands(*above, name)] or [above]


ALL = [command for command in commands() if command[0] not in NOT_FOR_PROGRAMS]


def test_the_list_is_whole():
    assert len(ALL) > 15
    assert {("down",), ("host", "kill"), ("kernel", "migrate"), ("bench", "raft")} <= set(ALL)


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_it_takes_json_and_a_wrong_line_is_an_error_in_it(command):
    assert "--json" in nbos(*command, "--help").stdout
    done = nbos(*command, "--json", "--no-such-option")
    assert done.returncode == 2 and done.stderr
    assert json.loads(done.stdout)["error"]


def failing(tmp_path):
    """Of each command a call that cannot succeed; nothing runs from `empty`."""
    empty, file = tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.write_text("")
    data = ("--data", empty)
    kernel = {name: (NO_KERNEL, *data) for name in ("revive", "delete", "restart", "migrate",
                                                    "kill-replica")}
    return {("up",): ("--hosts", 0, *data), ("down",): ("--data", file), ("status",): data,
            ("kernel", "list"): data, **{("kernel", name): a for name, a in kernel.items()},
            ("host", "list"): data, ("host", "kill"): ("host-1", *data),
            ("host", "start"): ("host-1", *data), ("system", "begin-anew"): data,
            ("kernelspec", "install"): ("--prefix", file), ("kernelspec", "remove"): ("--prefix", empty),
            ("bench", "cell"): ("--cells", 0), ("bench", "start"): ("--runs", 0),
            ("bench", "raft"): ("--directory", file / "below"),
            ("bench", "idle"): ("--directory", file / "below")}


@pytest.mark.parametrize("command", [one for one in ALL if one != ("version",)], ids=" ".join)
def test_a_failure_is_an_error_in_json(command, tmp_path):
    done = nbos(*command, *failing(tmp_path)[command], "--json")
    assert done.returncode == 1, done
    assert json.loads(done.stdout.splitlines()[-1])["error"], done
    assert done.stderr, "and in words"


def test_errors_of_a_running_cluster(cluster):
    for arguments in (("kernel", "restart", NO_KERNEL), ("kernel", "migrate", NO_KERNEL),
                      ("kernel", "delete", NO_KERNEL), ("host", "kill", "host-99"),
                      ("host", "start", "host-99"), ("system", "begin-anew"), ("up", "--detach")):
        done = cluster.cli(*arguments, "--json", check=False)
        assert done.returncode == 1, (arguments, done)
        assert json.loads(done.stdout)["error"], arguments


def test_what_succeeds_is_json_too(cluster, tmp_path):
    assert json.loads(nbos("version", "--json").stdout)["version"]
    assert "error" not in cluster.cli("status", "--json")
    spec = ("--prefix", tmp_path, "--name", "one", "--json")
    assert json.loads(nbos("kernelspec", "install", *spec).stdout)["installed"] is True
    assert json.loads(nbos("kernelspec", "remove", *spec).stdout)["removed"] is True
    down = json.loads(nbos("down", "--json", "--data", tmp_path / "nothing").stdout)
    assert down == {"stopped": False, "killed": 0}
