"""JupyterLab in Chromium, driven as a person does: a host dies between two cells.

NBOS_UPDATE_SCREENSHOTS=1 writes the screenshots of docs/guide/images anew.
"""
import itertools
import json
import os
import queue
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from cluster import ROOT, Cluster

HERE = Path(__file__).resolve().parent
NODE = shutil.which("node")
CHROMIUM = os.environ.get("NBOS_CHROMIUM") or shutil.which("chromium")

pytestmark = pytest.mark.skipif(
    not NODE or not CHROMIUM or not (HERE.parent / "node_modules" / "playwright-core").exists(),
    reason="needs Node, Chromium and the packages of tests/package.json (npm ci --prefix tests)")


LABS = itertools.count(1)


@pytest.fixture
def lab(cluster_folder):
    # A folder for each: JupyterLab opens what was open when it was closed.
    folder = cluster_folder / f"lab-{next(LABS)}"
    cluster = Cluster(folder / "data", lab=True, workspace=folder / "notebooks")
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.keep_logs(ROOT / "build" / "test-output" / "e2e" / "lab")
        cluster.down()


class Person:
    """The browser script, one step at a time."""

    def __init__(self, url, shots, script="notebook", **env):
        self.process = subprocess.Popen(
            [NODE, str(HERE / "browser" / f"{script}.mjs")], stdin=subprocess.PIPE, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "NBOS_LAB_URL": url, "NBOS_SHOTS": str(shots),
                 "NBOS_CHROMIUM": CHROMIUM, **env})
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("the browser has ended")

    def step(self, name):
        said = self.lines.get(timeout=150)
        got = json.loads(said) if said.startswith("{") else {"step": said}
        if got["step"] != name:  # in full: a failure far away has to be understood from it
            pytest.fail(f"the browser is not at {name}: {json.dumps(got, indent=1)}")
        return got

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def leave(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def test_a_notebook_goes_on_after_its_host_was_killed(lab, tmp_path):
    url = re.search(r"http://\S+", lab.said).group()
    update = os.environ.get("NBOS_UPDATE_SCREENSHOTS") == "1"
    shots = ROOT / "docs" / "guide" / "images" if update else (
        ROOT / "build" / "test-output" / "e2e" / "screenshots")
    person = Person(url, shots)
    try:
        person.step("launcher")
        assert person.step("first")["text"] == "42"
        rows = lab.kernel_rows()
        assert len(rows) == 1
        lab.wait_replicas(rows[0]["id"])
        lab.kill_host(lab.executor_host(rows[0]["id"]))
        person.go_on()
        assert person.step("second")["text"] == "{'apples': 12, 'pears': 30, 'plums': 7}"
    finally:
        person.leave()


SHOTS = ROOT / "build" / "test-output" / "e2e" / "screenshots"


def test_a_widget_is_visibly_closed_when_its_kernel_fails_over(lab):
    person = Person(re.search(r"http://\S+", lab.said).group(), SHOTS, "widgets")
    try:
        assert person.step("launcher")["logoWidth"] > 0
        assert person.step("moved")["text"].splitlines()[0] == "5"
        kernel_id = lab.kernel_rows()[0]["id"]
        lab.wait_replicas(kernel_id)
        lab.cli("kernel", "kill-replica", kernel_id)
        person.go_on()
        closed = person.step("closed")
        assert "Widgets of this notebook were closed" in closed["text"], closed
        assert "'next'" in closed["text"], closed
        print("what is left of the widget's output:", closed["left"])
        assert person.step("again")["text"].splitlines()[0] == "7"
    finally:
        person.leave()


def test_a_page_reloaded_while_a_cell_runs_shows_busy_and_then_idle(lab):
    person = Person(re.search(r"http://\S+", lab.said).group(), SHOTS, "reload")
    try:
        assert "pathlib" in person.step("busy")["cells"][0]
        (Path(lab.workspace) / "go-on").touch()
        person.go_on()
        assert person.step("idle")["text"] == "'after the reload'"
    finally:
        person.leave()


def test_jupyterlab_in_front_of_the_bare_face(lab):
    person = Person(re.search(r"http://\S+", lab.said).group(), SHOTS, "bare_face",
                    NBOS_GATEWAY_URL=lab.url, NBOS_GATEWAY_TOKEN=lab.token)
    try:
        person.step("launcher")
        first = person.step("first")
        assert first["text"] == "42"
        assert first["requests"] > 0 and first["sockets"] == 1, first
        sessions = lab.call("GET", "/api/sessions")[1]
        assert [session["path"] for session in sessions] == ["Untitled.ipynb"], sessions
        kernel_id = sessions[0]["kernel"]["id"]
        lab.wait_replicas(kernel_id)
        lab.kill_host(lab.executor_host(kernel_id))
        person.go_on()
        assert person.step("second")["text"] == "43"
        assert "kept + 1" in person.step("busy")["cells"][0]
        renamed = lab.call("GET", "/api/sessions")[1]
        assert [(s["path"], s["kernel"]["id"]) for s in renamed] == [("kept.ipynb", kernel_id)]
        (Path(lab.workspace) / "go-on").touch()
        person.go_on()
        assert person.step("idle")["text"] == "44"
    finally:
        person.leave()
