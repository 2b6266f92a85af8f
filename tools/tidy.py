#!/usr/bin/env python3
"""Checks what no compiler checks: who may include whom, sizes, words, formats.

Each check is a function from the tracked files to a list of problems, one line each. Run it by
itself (`tools/tidy.py`) or as a test (tools/tidy_test.py, part of `./nbos test`).
"""

import functools
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINES_MAX = 700
FUNCTION_LINES_MAX = 70
CXX = (".cc", ".h")
TEXT = (".cc", ".h", ".py", ".sh", ".md", ".txt", ".cmake", ".json", ".mjs", ".js", ".ts", ".lock")

# Written in pieces, so that this file does not find itself.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:wo" + r"rk/(?:main|shared)|ro" + r"ot/|ho" + r"me/\w+/)")
REGISTRY_HOSTS = re.compile(
    r"registry\.npm" + r"js|pypi\." + r"org|python" + r"hosted|(deb|snapshot)\.deb" + r"ian")
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
COROUTINES = re.compile(r"\bco_(?:await|return|yield)\b")


@functools.cache
def files():
    """Paths of the repository's own files, relative to its root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    paths = [pathlib.Path(name) for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if (ROOT / path).is_file()]


@functools.cache
def read(path):
    return (ROOT / path).read_text(errors="replace")


def sources(*suffixes):
    return [path for path in files() if path.suffix in suffixes and path.parts[0] in
            ("src", "tests", "bench", "python")]


def texts():
    return [path for path in files() if path.suffix in TEXT or path.name in ("nbos", "run")]


def layers():
    """The table of CMakeLists.txt: folder -> the folders it may include."""
    table = {}
    text = (ROOT / "CMakeLists.txt").read_text()
    for call in re.finditer(r"^nbos_module\((\w+)([^)]*)\)", text, re.MULTILINE):
        words = re.sub(r"#.*", "", call.group(2)).split()
        allowed, on = set(), False
        for word in words:
            if word in ("DEPS", "LIBS", "TEST_LABELS", "TEST_TIMEOUT"):
                on = word == "DEPS"
            elif on:
                allowed.add(word)
        table[call.group(1)] = allowed
    return table


def check_layers():
    table, problems = layers(), []
    for path in files():
        if path.parts[0] != "src" or path.suffix not in CXX:
            continue
        folder = path.parts[1]
        if folder == "apps":
            continue
        if folder not in table:
            problems.append(f"{path}: the folder is not in CMakeLists.txt's table")
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            included = re.match(r'#include "(\w+)/', line)
            if not included or included.group(1) in table[folder] | {folder}:
                continue
            if included.group(1) == "tests" and path.stem.endswith("_test"):
                continue  # fakes of tests/support
            problems.append(f"{path}:{number}: {folder}/ may not include {included.group(1)}/")
    return problems


def check_table_has_no_cycle():
    table, problems = layers(), []
    for name, allowed in table.items():
        for other in allowed:
            if other not in table:
                problems.append(f"CMakeLists.txt: {name} names the unknown folder {other}")
            elif name in table[other]:
                problems.append(f"CMakeLists.txt: {name} and {other} may include each other")
    return problems


def check_file_sizes():
    return [f"{path}: {read(path).count(chr(10))} lines; split it, {LINES_MAX} is the limit"
            for path in sources(".cc", ".h", ".py", ".mjs", ".js")
            if read(path).count("\n") > LINES_MAX]


def function_lengths(path):
    """(name, line, length) of each function body, by the house format: a body ends with a brace at
    the column where its first line began."""
    lines, found, start = read(path).splitlines(), [], None
    for number, line in enumerate(lines):
        opens = re.match(r"( *)[\w:<>~&*,\[\]\s]+[\w\])>]\(.*", line)
        if start is None and opens and not line.rstrip().endswith(";") and not re.match(
                r"\s*(if|for|while|switch|return|else|namespace|class|struct|case)\b", line):
            start = (len(opens.group(1)), number)
        if start is not None and number >= start[1]:
            indent = line[:start[0]]
            rest = line[start[0]:]
            if rest.startswith("}") and not indent.strip() and number > start[1]:
                found.append((lines[start[1]].strip(), start[1] + 1, number - start[1] + 1))
                start = None
            elif rest.rstrip().endswith((";", "}")) and number == start[1]:
                start = None
            elif number > start[1] and rest[:1] not in (" ", "}", "", ":", "#", ")") \
                    and not indent.strip():
                start = None
    return found


def check_function_sizes():
    return [f"{path}:{line}: {name[:60]} has {length} lines; {FUNCTION_LINES_MAX} is a screen"
            for path in sources(*CXX) if path.parts[0] == "src" and not path.stem.endswith("_test")
            for name, line, length in function_lengths(path) if length > FUNCTION_LINES_MAX]


def lines_matching(pattern, paths):
    return [f"{path}:{number}: {line.strip()[:80]}" for path in paths
            for number, line in enumerate(read(path).splitlines(), 1) if pattern.search(line)]


def check_machine_paths():
    return lines_matching(MACHINE_PATHS, texts())


def check_registry_hosts():
    return lines_matching(REGISTRY_HOSTS, texts())


def check_unfinished_marks():
    return lines_matching(UNFINISHED, sources(".cc", ".h", ".py", ".mjs", ".js"))


def check_no_coroutines():
    """g++ 12 miscompiles common coroutine code in silence; plain callbacks do not have that."""
    return lines_matching(COROUTINES, sources(*CXX))


def check_headers():
    problems = []
    for path in sources(".h"):
        if path.parts[0] == "python":
            continue
        if "#pragma once" not in read(path):
            problems.append(f"{path}: no #pragma once")
        if not read(path).startswith("//"):
            problems.append(f"{path}: does not open with its contract, a comment")
    return problems


def check_dead_headers():
    included = set()
    for path in sources(*CXX):
        included.update(re.findall(r'#include "([^"]+)"', read(path)))
    return [f"{path}: nobody includes it" for path in sources(".h")
            if path.parts[0] == "src" and "/".join(path.parts[1:]) not in included]


def check_names():
    return [f"{path}: `util` says nothing; name the subject" for path in files()
            if re.search(r"\butil(s|ities)?\b", path.stem.replace("_", " "))]


def check_version():
    number = re.search(r"project\(nbos VERSION (\S+)", read(pathlib.Path("CMakeLists.txt")))
    header = read(pathlib.Path("src/cli/version_number.h"))
    return [] if f'"{number.group(1)}"' in header else [
        f"src/cli/version_number.h: not version {number.group(1)} of CMakeLists.txt"]


def check_dependencies_page():
    result = subprocess.run([sys.executable, "tools/dependencies_page.py", "--check"], cwd=ROOT,
                            capture_output=True, text=True)
    return [result.stderr.strip()] if result.returncode else []


def check_links():
    """Links and pictures of the documentation lead to files."""
    problems = []
    for path in files():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", read(path)):
            if not re.match(r"[a-z]+:", target) and not (ROOT / path.parent / target).exists():
                problems.append(f"{path}: the link to {target} leads nowhere")
    return problems


def formatter():
    """clang-format 19, or None: other versions format differently."""
    for name in ("clang-format-19", "clang-format"):
        if shutil.which(name):
            version = subprocess.run([name, "--version"], capture_output=True, text=True).stdout
            if " version 19." in version:
                return name
    return None


def check_format():
    name = formatter()
    if name is None:
        return []
    paths = [str(path) for path in sources(*CXX)]
    if not paths:
        return []
    result = subprocess.run([name, "--dry-run", "-Werror", "--ferror-limit=1", *paths], cwd=ROOT,
                            capture_output=True, text=True)
    return sorted({line.split(": error:")[0] + ": not formatted; run clang-format-19 -i on it"
                   for line in result.stderr.splitlines() if ": error:" in line})


CHECKS = [check_layers, check_table_has_no_cycle, check_file_sizes, check_function_sizes,
          check_machine_paths, check_registry_hosts, check_unfinished_marks, check_no_coroutines,
          check_headers, check_dead_headers, check_names, check_version, check_dependencies_page,
          check_links, check_format]


def main():
    problems = [problem for check in CHECKS for problem in check()]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
