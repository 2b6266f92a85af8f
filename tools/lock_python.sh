#!/usr/bin/env bash
# Writes deps/python.lock: the versions that the project's environment has now. Run it after
# changing a pin in deps/packages.txt and after ./nbos test was green with it.
set -euo pipefail
cd "$(dirname "$0")/.."
{
    sed -n '/^#/p' deps/python.lock
    # torch stays out: its builds carry local version suffixes that other indexes do not have.
    .venv/bin/pip freeze --exclude-editable | grep -vE '^(torch==|-e )|@ file:'
} >deps/python.lock.new
mv deps/python.lock.new deps/python.lock
