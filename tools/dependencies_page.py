#!/usr/bin/env python3
"""Writes docs/reference/dependencies.md from deps/packages.txt; `--check` only compares."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "dependencies.md"
HEAD = """# Dependencies

Everything that NotebookOS uses and does not contain, with its reason. This page is made from
[deps/packages.txt](../../deps/packages.txt) by `tools/dependencies_page.py`; change that file, not this one.
Exact versions of all Python packages: [deps/python.lock](../../deps/python.lock); of the JavaScript packages that only
tests use: [tests/package-lock.json](../../tests/package-lock.json).
"""
TITLES = {
    "debian": "Debian packages, to build and run",
    "debian-test": "Debian packages, for `./nbos test` only",
    "debian-long": "Debian packages, for `./nbos test --long` only",
    "python": "Python packages, to run (in `.venv`)",
    "python-test": "Python packages, for `./nbos test` only",
}


def page():
    lines = [HEAD]
    for line in (ROOT / "deps" / "packages.txt").read_text().splitlines():
        section = re.match(r"\[([\w-]+)\]", line)
        if section:
            lines += [f"\n## {TITLES[section.group(1)]}\n", "| package | why |", "| --- | --- |"]
            continue
        if not line.strip() or line.startswith("#"):
            continue
        names, reason = line.split("#", 1)
        names = " ".join(word for word in names.split() if not word.startswith("?"))
        names = " or ".join(f"`{name.strip()}`" for name in names.split("|"))
        lines.append(f"| {names} | {reason.strip()} |")
    return "\n".join(lines) + "\n"


def main():
    if "--check" in sys.argv:
        same = PAGE.exists() and PAGE.read_text() == page()
        return 0 if same else f"{PAGE.relative_to(ROOT)} is old; run tools/dependencies_page.py"
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
