"""Random faults, from a seed, on a cluster of netns.py: what strikes, whom, when, for how long.

One fault at a time, sometimes with a second one that is over at once. Real processes do not run the
same way twice; the seed gives the same faults in the same order.
"""
import random
import time

from cluster import poll
from faults import (AgentKilled, AgentStopped, AllAgentsKilled, Cut, GatewayKilled,
                    InterpreterKilled, PowerOff)

FAULTS = {  # the kind, and the seconds until it is healed
    InterpreterKilled: (0, 0), AgentKilled: (0, 0), AllAgentsKilled: (0, 0), GatewayKilled: (0, 0),
    AgentStopped: (1, 10), PowerOff: (1, 10), (lambda: Cut(10)): (1, 15),
    (lambda: Cut(10, "in")): (1, 12), (lambda: Cut(10, "out")): (1, 12),
}
AT_ONCE = (AgentKilled, GatewayKilled)
GAP_S = (0.5, 4.0)


class Chaos:
    """`began(what)` is called before each fault."""

    def __init__(self, cluster, kernels, seed, began):
        self._cluster, self._kernels, self._began = cluster, kernels, began
        self._random = random.Random(f"{seed}/faults")
        self.struck = []  # names

    def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self._random.uniform(*GAP_S))
            make = self._random.choice(list(FAULTS))
            self._one(make(), *FAULTS[make])

    def _one(self, fault, shortest, longest):
        host = self._random.choice(sorted(self._cluster.machines))
        duration = self._random.uniform(shortest, longest)
        second = self._random.choice(AT_ONCE)() if self._random.random() < 0.4 else None
        other = self._random.choice([name for name in sorted(self._cluster.machines)
                                     if name != host])
        try:
            if not self._strike(fault, host):
                return
            time.sleep(duration / 2)
            if second is not None and duration > 0:
                self._strike(second, other)
            time.sleep(duration / 2)
        finally:
            fault.heal(self._cluster, host)
        poll("all agents run", self._all_run, 30)

    def _strike(self, fault, host):
        kernel = self._random.choice(self._kernels)
        if isinstance(fault, InterpreterKilled):
            if self._cluster.interpreter_pid(kernel, host) is None:
                return False  # it has no replica there
            fault.prepare(self._cluster, host, kernel)
        self._began(fault.name, host)
        self.struck.append(fault.name)
        fault.strike(self._cluster, host, kernel)
        return True

    def _all_run(self):
        try:
            return all(self._cluster.agent_pid(host) for host in self._cluster.machines)
        except AssertionError:  # between its end and its next start
            return False
