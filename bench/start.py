"""From the request for a kernel to the reply of its first cell: NotebookOS with warm interpreters
against a stock ipykernel process started cold, taking turns in one run.

    python bench/start.py [--url URL --token T] [--runs 20] [--json]

Without --url it starts a cluster of its own and ends it again. `--rest` is the pause before each of
our starts, in which the pool of warm interpreters fills up again, as it does between two users.
"""
import argparse
import contextlib
import json
import sys
import time

import targets


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="a running NotebookOS; default: one of its own")
    parser.add_argument("--token", default="", help="its token")
    parser.add_argument("--runs", type=int, default=20, help="starts measured for each target")
    parser.add_argument("--rest", type=float, default=2.0, help="seconds before each of our starts")
    parser.add_argument("--stock-only", action="store_true", help="without NotebookOS")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def start_once(make):
    """Seconds from nothing to the first execute_reply."""
    began = time.perf_counter()
    kernel = make()
    try:
        cells = kernel.connect()
        try:
            # The reply only: the first status messages of a kernel that is just binding its sockets
            # may pass before a subscriber is heard.
            cells.first_reply("1 + 1")
            return time.perf_counter() - began
        finally:
            cells.close()
    finally:
        kernel.stop()


def main():
    chosen = options()
    times = {"stock_cold": []}
    with targets.scratch() as folder, contextlib.ExitStack() as stack:
        makers = {"stock_cold": lambda: targets.StockKernel(folder)}
        if not chosen.stock_only:
            cluster = targets.OwnCluster(folder, chosen.url, chosen.token)
            stack.callback(cluster.stop)
            makers["notebookos_warm"] = lambda: targets.ServedKernel(cluster)
            times["notebookos_warm"] = []
            start_once(makers["notebookos_warm"])
        start_once(makers["stock_cold"])
        for _ in range(chosen.runs):
            for name, make in makers.items():
                if name == "notebookos_warm":
                    time.sleep(chosen.rest)
                times[name].append(1000 * start_once(make))
    report(times, chosen)
    return 0


def report(times, chosen):
    print(f"{'ms to the first reply':<22}{'p50':>9}{'p95':>9}{'min':>9}{'max':>9}")
    rows = {}
    for name, values in times.items():
        rows[name] = {"p50": targets.quantile(values, 0.5), "p95": targets.quantile(values, 0.95),
                      "min": min(values), "max": max(values)}
        print(f"{name:<22}" + "".join(f"{value:>9.1f}" for value in rows[name].values()))
    if chosen.json:
        line = {"bench": "start", "runs": chosen.runs, "targets": rows}
        if "notebookos_warm" in rows:
            line["ratio_to_stock_cold_p50"] = round(
                rows["notebookos_warm"]["p50"] / rows["stock_cold"]["p50"], 3)
        print(json.dumps(line))


if __name__ == "__main__":
    sys.exit(targets.run(main))
