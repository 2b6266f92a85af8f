"""A trivial cell, execute_request to idle: NotebookOS's WebSocket with three replicas against stock
ipykernel over ZeroMQ and stock jupyter_server's WebSocket, interleaved in blocks in one run.

    python bench/cell.py [--url URL --token T] [--cells 500] [--code pass] [--json]

Without --url it starts a cluster of its own and ends it again. Times are in milliseconds; `idle` is
until the status idle, `reply` until the execute_reply, as the client sees them.
"""
import argparse
import contextlib
import json
import sys
import time

import targets

BLOCK = 25
WARM_UP = 30


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="a running NotebookOS; default: one of its own")
    parser.add_argument("--token", default="", help="its token")
    parser.add_argument("--cells", type=int, default=500, help="cells measured for each target")
    parser.add_argument("--code", default="pass", help="the cell")
    parser.add_argument("--stock-only", action="store_true", help="without NotebookOS")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def open_kernels(chosen, folder, stack):
    """name -> connected client."""
    clients = {}

    def add(name, kernel):
        stack.callback(kernel.stop)
        clients[name] = kernel.connect()
        stack.callback(clients[name].close)

    add("stock_zmq", targets.StockKernel(folder))
    server = targets.StockServer(folder)
    stack.callback(server.stop)
    add("stock_websocket", targets.ServedKernel(server))
    if not chosen.stock_only:
        cluster = targets.OwnCluster(folder, chosen.url, chosen.token)
        stack.callback(cluster.stop)
        add("notebookos", targets.ServedKernel(cluster))
    return clients


def measure(clients, cells, code):
    """name -> list of (idle, reply) in seconds. Blocks take turns, so that what else the machine
    does meets all of them alike."""
    times = {name: [] for name in clients}
    for client in clients.values():
        client.first_reply(code)
        time.sleep(0.5)  # a ZeroMQ subscription has no answer to wait for
        for _ in range(WARM_UP):
            client.run(code)
    while len(times["stock_zmq"]) < cells:
        for name, client in clients.items():
            for _ in range(min(BLOCK, cells - len(times[name]))):
                times[name].append(client.run(code)[:2])
    return times


def summarise(times):
    rows = {}
    for name, pairs in times.items():
        idle = [1000 * pair[0] for pair in pairs]
        reply = [1000 * pair[1] for pair in pairs]
        rows[name] = {"p50": targets.quantile(idle, 0.5), "p95": targets.quantile(idle, 0.95),
                      "p99": targets.quantile(idle, 0.99), "min": min(idle),
                      "reply_p50": targets.quantile(reply, 0.5), "cells": len(idle)}
    return rows


def main():
    chosen = options()
    with targets.scratch() as folder, contextlib.ExitStack() as stack:
        clients = open_kernels(chosen, folder, stack)
        rows = summarise(measure(clients, chosen.cells, chosen.code))
    print(f"{'ms, request to idle':<20}{'p50':>8}{'p95':>8}{'p99':>8}{'min':>8}{'reply p50':>11}")
    for name, row in rows.items():
        print(f"{name:<20}{row['p50']:>8.2f}{row['p95']:>8.2f}{row['p99']:>8.2f}{row['min']:>8.2f}"
              f"{row['reply_p50']:>11.2f}")
    if chosen.json:
        line = {"bench": "cell", "cells": chosen.cells, "targets": rows}
        if "notebookos" in rows:
            ours = rows["notebookos"]
            line.update(
                ratio_to_stock_zmq_p50=round(ours["p50"] / rows["stock_zmq"]["p50"], 3),
                ratio_to_stock_websocket_p50=round(ours["p50"] / rows["stock_websocket"]["p50"], 3),
                p50_ms=round(ours["p50"], 3), p99_ms=round(ours["p99"], 3))
        print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(targets.run(main))
