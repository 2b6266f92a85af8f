"""Builds the libFuzzer programs with clang and runs each of them: python tools/fuzz.py [--seconds N]

One program for each parser of outside bytes (tests/fuzz/wire_targets.h), two at a time, with
AddressSanitizer and UBSan. An input that crashes, hangs or eats memory is left in
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

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "fuzz"
FINDINGS = ROOT / "build" / "test-output" / "fuzz"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
CLANG = "clang++-19"
INPUT_BYTES_MAX = 4096
KEPT_BYTES_MAX = 512
KEPT_MAX = 120


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
    """(name, runs, coverage, error or None)"""
    program = BUILD / "tests" / f"fuzz_{name}"
    FINDINGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"nbos-fuzz-{name}-") as folder:
        inputs = Path(folder)
        command = [str(program), str(inputs), f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}",
                   "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1",
                   f"-artifact_prefix={FINDINGS}/{name}-"]
        environment = {**os.environ, "NBOS_FUZZ_INPUTS": str(inputs)}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
        runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
        coverage = re.findall(r"cov: (\d+)", done.stderr)
        error = None if done.returncode == 0 else done.stderr[-3000:]
        if keep and error is None:
            keep_corpus(name, program, inputs)
    return name, int(runs[-1]) if runs else 0, int(coverage[-1]) if coverage else 0, error


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
    """Results as fuzz() gives them; one with an error when the programs cannot be built."""
    names = [name for name in targets() if not only or name in only]
    problem = build(names)
    if problem:
        return [("build", 0, 0, problem)]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(lambda name: fuzz(name, seconds, keep), names))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for each target (default 600)")
    parser.add_argument("--keep", action="store_true", help="write what was learnt to tests/fuzz/corpus")
    parser.add_argument("targets", nargs="*", help="only these")
    options = parser.parse_args()
    results = run(options.seconds, options.keep, options.targets)
    for name, runs, coverage, error in results:
        print(f"{name:28} {runs:12,} runs  {coverage:7,} edges  {'FOUND SOMETHING' if error else 'clean'}")
        if error:
            print(error)
    return 1 if any(error for *_, error in results) else 0


if __name__ == "__main__":
    sys.exit(main())
