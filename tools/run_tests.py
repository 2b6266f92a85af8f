#!/usr/bin/env python3
"""Runs every test of the repository; `./nbos test` calls it after installing what it needs.

Each suite prints one line with its time and its counts. The last line of all is
`N passed, N failed, N skipped`: test cases, summed over all suites. The exit code is 0 only if
nothing failed and something ran.

    ./nbos test                 everything but the long simulator runs, fuzzing and TSan
    ./nbos test --long          with 100,000 simulator seeds (5,000 of the platform), the whole
                                fault matrix, histories, fuzzing and TSan
    ./nbos test --only tidy     one suite by name (may be repeated)
    ./nbos test --list          the suites
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

import fuzz

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "build" / "test-output"
TAIL_LINES = 60
SANITIZED_SEEDS = 50
TARGETS = {"tsan": ["--target", "io_test"]}  # the programs with the ctest label `threads`
LONG_SEEDS = 100_000
LONG_SEEDS_OF = {"platform_sim_test": 5_000}  # a seed of the whole platform takes 50 ms
LONG_LIMIT_S = 24 * 3600
FUZZ_SECONDS = 600
OPTIONAL_START_S = 50 * 60  # with CI=true; CI ends a run after 90 minutes


@dataclass
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list = field(default_factory=list)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass
class Suite:
    name: str
    about: str
    run: object  # a function of the options, returns Counts
    when: object = lambda options: True
    optional: bool = False  # left out, by name, when CI's time is nearly over


def read_junit(path, prefix=""):
    """Counts the cases of a gtest, pytest or ctest XML file."""
    counts = Counts()
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{prefix}{case.get('classname', '')}.{case.get('name', '')}"
        state = case.get("status", "")
        if case.find("failure") is not None or case.find("error") is not None:
            counts.failed += 1
            counts.failures.append(name)
        elif (case.find("skipped") is not None or case.get("result") in ("skipped", "suppressed")
              or state in ("notrun", "disabled")):
            counts.skipped += 1
        else:
            counts.passed += 1
    return counts


def failure(name):
    return Counts(failed=1, failures=[name])


def run_logged(name, command, limit_s, env=None):
    """Runs a command with its output in a log. Returns (exit code, log path); shows a failure."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    log = OUTPUT / f"{name}.log"
    with open(log, "wb") as out:
        # A session of its own, so that a time-out ends what the command has started, too.
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
                                 start_new_session=True)
        try:
            code = child.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            code = 124
            out.write(f"\n{name}: stopped after {limit_s} s\n".encode())
    if code != 0:
        show_tail(log)
    return code, log


def show_tail(log):
    lines = log.read_text(errors="replace").splitlines()
    print(f"---- the end of {log.relative_to(ROOT)}")
    for line in lines[-TAIL_LINES:]:
        print("  " + line)
    print("----", flush=True)


def build(preset, options):
    env = {"CMAKE_BUILD_PARALLEL_LEVEL": str(options.jobs)}
    code, _ = run_logged(f"configure-{preset}", ["cmake", "--preset", preset], 300)
    if code == 0:
        code, _ = run_logged(f"build-{preset}", ["cmake", "--build", "--preset", preset,
                                                 *TARGETS.get(preset, [])], 3600, env)
    return code == 0


def run_programs(preset, options):
    """Builds a preset and runs its test programs. Cases are counted, not programs."""
    began = time.monotonic()
    if not build(preset, options):
        return failure(f"build {preset}")
    print(f"  built {preset} in {time.monotonic() - began:.0f} s", flush=True)
    if preset != "asan":
        return run_ctest(preset, preset, [], {})
    # Sanitized simulators look for other bugs than more seeds would; the planted bugs need many.
    counts = run_ctest(preset, "asan", ["--exclude-regex", "_sim_|_mutants_"], {})
    counts.add(run_ctest(preset, "asan-sim", ["--tests-regex", "_sim_"],
                         {"NBOS_SEEDS": f"1:{SANITIZED_SEEDS}"}))
    return counts


def run_ctest(preset, name, arguments, env):
    xml = OUTPUT / f"{name}-xml"
    shutil.rmtree(xml, ignore_errors=True)
    xml.mkdir(parents=True)
    summary = OUTPUT / f"{name}-ctest.xml"
    summary.unlink(missing_ok=True)
    command = ["ctest", "--preset", preset, "--output-junit", str(summary), *arguments]
    env = {"GTEST_OUTPUT": f"xml:{xml}/", "UBSAN_OPTIONS": "print_stacktrace=1",
           "TSAN_OPTIONS": f"suppressions={ROOT}/tests/tsan.supp",
           "NBOS_TEST_PYTHON": sys.executable, **env}
    code, log = run_logged(f"ctest-{name}", command, 3600, env)
    return count_programs(name, xml, summary, code, log)


def run_long_simulators(_options):
    """Many seeds of each simulator, with the programs that the suite cpp has built."""
    counts = Counts()
    for program in sorted((ROOT / "build" / "release" / "tests").glob("*_sim_test")):
        report = OUTPUT / f"long-{program.name}.xml"
        report.unlink(missing_ok=True)
        seeds = LONG_SEEDS_OF.get(program.name, LONG_SEEDS)
        code, log = run_logged(f"long-{program.name}", [str(program)], LONG_LIMIT_S,
                               {"NBOS_SEEDS": f"1:{seeds}", "GTEST_OUTPUT": f"xml:{report}"})
        counts.add(read_junit(report, "long: ") if report.exists() else Counts())
        if code != 0 and not counts.failed:
            counts.add(failure(f"long: {program.name}, see {log}"))
    return counts


def run_fuzzers(_options):
    """Ten minutes of processor time of libFuzzer on each parser of outside bytes."""
    counts = Counts()
    for result in fuzz.run(FUZZ_SECONDS):
        counts.add(failure(f"fuzz: {result.name}") if result.error else Counts(passed=1))
    return counts


def count_programs(preset, xml, summary, code, log):
    counts = Counts()
    reported = {path.stem.removesuffix("_test"): path for path in xml.glob("*.xml")}
    for path in reported.values():
        counts.add(read_junit(path, f"{preset}: "))
    programs = ElementTree.parse(summary).iter("testcase") if summary.exists() else []
    for case in programs:
        name, seconds = case.get("name").removesuffix("_test"), float(case.get("time") or 0)
        print(f"  {preset} {name}: {seconds:.1f} s", flush=True)
        ran = case.get("status") == "run"
        if name not in reported or (not ran and not read_junit(reported[name]).failed):
            # No gtest report (another kind of test, or it crashed), or it failed after its cases.
            counts.add(Counts(passed=1) if ran else failure(f"{preset}: {name} (the program)"))
    if code != 0 and not counts.failed:
        counts.add(failure(f"ctest {preset}, see {log}"))
    return counts


def run_drills(options):
    """The whole fault matrix; the suite e2e has run one drill a fault."""
    table = OUTPUT / "drills" / "pauses.txt"
    table.unlink(missing_ok=True)
    counts = run_pytest("drills", ["tests/e2e/test_fault_matrix.py"], LONG_LIMIT_S, options,
                        {"NBOS_DRILLS": "all"})
    if table.exists():
        print(table.read_text(), end="", flush=True)
    return counts


def run_pytest(name, folders, limit_s, options, more_env=None):
    present = [str(folder) for folder in folders if (ROOT / folder).exists()]
    if not present:
        return Counts()
    report = OUTPUT / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=8",
               f"--junitxml={report}", *present]
    env = {"NBOS_NO_BUILD": "1", **(more_env or {})}
    code, log = run_logged(name, command, limit_s, env)
    if code == 5 and report.exists():
        return Counts()  # pytest found no test in these folders
    counts = read_junit(report) if report.exists() else Counts()
    if code != 0 and not counts.failed:
        counts.add(failure(f"{name}: pytest ended with {code}, see {log}"))
    if code == 0:
        print_slowest(log)
    return counts


def print_slowest(log):
    for line in log.read_text(errors="replace").splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1] == "call" and float(parts[0].rstrip("s")) > 5:
            print("  slow: " + line)


SUITES = [
    Suite("tidy", "layers, sizes, formats, banned words", lambda options:
          run_pytest("tidy", ["tools"], 600, options)),
    Suite("cpp", "the test program of every folder, and the simulators",
          lambda options: run_programs("release", options)),
    Suite("python", "nbos_kernel", lambda options:
          run_pytest("python", ["python"], 1800, options)),
    Suite("e2e", "real programs on loopback: clients, notebooks, failures, a browser",
          lambda options: run_pytest("e2e", ["tests"], 2400, options)),
    Suite("asan", "the test programs again with AddressSanitizer and UBSan",
          lambda options: run_programs("asan", options), lambda options: options.asan, True),
    Suite("tsan", "the programs with threads again with ThreadSanitizer",
          lambda options: run_programs("tsan", options), lambda options: options.tsan, True),
    Suite("long", "100,000 seeds of each simulator (5,000 of the whole platform)", run_long_simulators,
          lambda options: options.long),
    Suite("fuzz", "ten minutes of libFuzzer on each parser of outside bytes", run_fuzzers,
          lambda options: options.long),
    Suite("limits", "floods, deaf clients, a gigabyte of output: minutes, and much memory",
          lambda options: run_pytest("limits", ["tests/e2e/test_limits.py"], 3600, options,
                                     {"NBOS_LIMITS": "1"}),
          lambda options: options.long),
    Suite("drills", "the whole fault matrix, on machines in network namespaces", run_drills,
          lambda options: options.long),
    Suite("history", "ten minutes of random faults on such machines; clients' histories are judged",
          lambda options: run_pytest("history", ["tests/e2e/test_history.py"], 3600, options,
                                     {"NBOS_HISTORY_S": "600"}),
          lambda options: options.long),
]


def parse():
    parser = argparse.ArgumentParser(prog="nbos test", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true",
                        help="long simulator runs, the whole fault matrix, histories, and TSan")
    parser.add_argument("--asan", action=argparse.BooleanOptionalAction, default=None,
                        help="with the AddressSanitizer suite (default: yes)")
    parser.add_argument("--tsan", action=argparse.BooleanOptionalAction, default=None,
                        help="with the ThreadSanitizer suite (default: with --long)")
    parser.add_argument("--only", action="append", choices=[suite.name for suite in SUITES],
                        help="run only this suite")
    parser.add_argument("--list", action="store_true", help="list the suites and stop")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="build jobs")
    options = parser.parse_args()
    if options.tsan is None:
        options.tsan = options.long
    if options.asan is None:
        options.asan = True
    return options


def chosen(options):
    if options.only:
        return [suite for suite in SUITES if suite.name in options.only]
    return [suite for suite in SUITES if suite.when(options)]


def main():
    options = parse()
    if options.list:
        for suite in SUITES:
            print(f"{suite.name:8} {suite.about}")
        return 0
    total, times, start = Counts(), [], time.monotonic()
    for suite in chosen(options):
        print(f"{suite.name}: {suite.about}", flush=True)
        began = time.monotonic()
        if suite.optional and os.environ.get("CI") == "true" and began - start > OPTIONAL_START_S:
            print(f"{suite.name}: skipped, not enough of CI's time is left", flush=True)
            total.add(Counts(skipped=1))
            continue
        counts = suite.run(options)
        times.append((suite.name, time.monotonic() - began, counts))
        total.add(counts)
        print(f"{suite.name}: {counts} in {times[-1][1]:.0f} s", flush=True)
    print()
    for name in total.failures:
        print(f"failed: {name}")
    for name, seconds, counts in times:
        print(f"{name:8} {seconds:6.0f} s   {counts}")
    print()
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped", flush=True)
    return 0 if total.failed == 0 and total.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
