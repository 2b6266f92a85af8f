"""Kernels that nobody uses, on three real agents: nothing is sent for them, and they wake.

The figures (processor time, memory, latencies) are printed and not judged: `nbos bench idle` is the
command for those.
"""
import json
import subprocess

from cluster import BINARY

KERNELS = 45
WAKES = 5


def test_idle_kernels_send_nothing_wake_for_a_cell_and_outlive_a_host(tmp_path):
    command = [BINARY, "bench", "idle", "--directory", str(tmp_path / "logs"), "--groups",
               str(KERNELS), "--seconds", "3", "--wakes", str(WAKES), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600,
                            stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stdout + result.stderr
    print(result.stdout)
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["frames"], figures["bytes"]) == (0, 0)
    # Each host wakes kernels that it leads; elections may have left one with fewer.
    assert figures["woken"] == figures["asked_to_wake"] > WAKES
    assert figures["reelected"] == KERNELS
