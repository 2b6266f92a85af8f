"""Builds the libFuzzer programs with clang and runs each of them: python tools/fuzz.py [--seconds N]

One program for each parser of outside bytes (tests/fuzz/wire_targets.h), as many at a time as there
are cores, each for N seconds of processor time, with AddressSanitizer and UBSan. An input that crashes, hangs or eats memory is left in
build/test-output/fuzz and fails the run; with --keep what widened the coverage goes into
tests/fuzz/corpus (a line of base64 each), which every test run replays.
"""
import argparse
import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "fuzz"
FINDINGS = ROOT / "build" / "test-output" / "fuzz"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
CLANG = "clang++-19"
INPUT_BYTES_MAX = 4096
KEPT_BYTES_MAX = 512
KEPT_MAX = 120


class Result(NamedTuple):
    name: str
    runs: int
    edges: int
    processor_s: float
    error: str | None


def targets():
    header = (ROOT / "tests" / "fuzz" / "wire_targets.h").read_text()
    return re.findall(r"^void ([a-z_]+)\(std::string_view bytes\);", header, re.MULTILINE)


def build(names):
    """An error message, or None."""
    clang = shutil.which(CLANG) or shutil.which("clang++")
    if clang is None:
        return f"there is no {CLANG}: apt-get install clang-19 (Debian 12 and newer)"
    configure = ["cmake", "-S", str(ROOT), "-B", str(BUILD), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
                 "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1", "-DNBOS_FUZZ=ON", "-DNBOS_WERROR=OFF",
                 f"-DCMAKE_CXX_COMPILER={clang}", "-DNBOS_SANITIZE=address,undefined",
                 "-DCMAKE_CXX_FLAGS=-fsanitize=fuzzer-no-link"]
    programs = [f"fuzz_{name}" for name in names]
    for command in (configure, ["cmake", "--build", str(BUILD), "--target", *programs]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return f"{' '.join(command[:2])} failed:\n{(done.stdout + done.stderr)[-3000:]}"
    return None


def fuzz(name, seconds, keep):
    """A Result. libFuzzer counts wall time, and others may need the cores: it is run until it has had
    its seconds of processor time."""
    program = BUILD / "tests" / f"fuzz_{name}"
    FINDINGS.mkdir(parents=True, exist_ok=True)
    runs, coverage, used, error = 0, 0, 0.0, None
    with tempfile.TemporaryDirectory(prefix=f"nbos-fuzz-{name}-") as folder:
        inputs = Path(folder)
        while error is None and used < seconds - 1:
            code, log, processor_s = run_program(name, program, inputs, max(1, round(seconds - used)))
            used += processor_s
            runs += int(last_number(r"stat::number_of_executed_units:\s*(\d+)", log))
            coverage = int(last_number(r"cov: (\d+)", log))
            error = None if code == 0 else log[-3000:]
        if keep and error is None:
            keep_corpus(name, program, inputs)
    return Result(name, runs, coverage, used, error)


def run_program(name, program, inputs, wall_s):
    """(exit status, what it said, seconds of processor time)"""
    command = [str(program), str(inputs), f"-max_total_time={wall_s}", f"-max_len={INPUT_BYTES_MAX}",
               "-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1",
               f"-artifact_prefix={FINDINGS}/{name}-"]
    environment = {**os.environ, "NBOS_FUZZ_INPUTS": str(inputs)}
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        log = said.read().decode(errors="replace")
    return child.returncode, log, usage.ru_utime + usage.ru_stime


def last_number(pattern, log):
    found = re.findall(pattern, log)
    return found[-1] if found else 0


def keep_corpus(name, program, inputs):
    with tempfile.TemporaryDirectory(prefix="nbos-fuzz-merge-") as folder:
        subprocess.run([str(program), "-merge=1", folder, str(inputs)], capture_output=True, check=True)
        found = sorted((path.read_bytes() for path in Path(folder).iterdir()), key=lambda b: (len(b), b))
    small = [one for one in found if len(one) <= KEPT_BYTES_MAX]
    # Evenly over the sizes, when there are too many.
    step = max(1, -(-len(small) // KEPT_MAX))
    CORPUS.mkdir(parents=True, exist_ok=True)
    lines = sorted(base64.b64encode(one).decode() for one in small[::step] if one)
    (CORPUS / f"{name}.txt").write_text("".join(line + "\n" for line in lines))


def run(seconds, keep=False, only=()):
    """A Result for each target; one with an error when the programs cannot be built."""
    names = [name for name in targets() if not only or name in only]
    problem = build(names)
    if problem:
        return [Result("build", 0, 0, 0.0, problem)]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(lambda name: told(fuzz(name, seconds, keep)), names))


def told(result):
    print(f"{result.name:28} {result.runs:12,} runs  {result.edges:7,} edges  {result.processor_s:5.0f} s  "
          f"{'FOUND SOMETHING' if result.error else 'clean'}", flush=True)
    if result.error:
        print(result.error, flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="of processor time for each target (default 600)")
    parser.add_argument("--keep", action="store_true", help="write what was learnt to tests/fuzz/corpus")
    parser.add_argument("targets", nargs="*", help="only these")
    options = parser.parse_args()
    results = run(options.seconds, options.keep, options.targets)
    return 1 if any(result.error for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
