"""tools/tidy.py as tests, and tests that its checks can fail."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tidy  # noqa: E402


@pytest.mark.parametrize("check", tidy.CHECKS, ids=lambda check: check.__name__)
def test_the_repository_is_tidy(check):
    if check is tidy.check_format and tidy.formatter() is None:
        pytest.skip("no clang-format 19 on this system")
    assert check() == []


@pytest.fixture
def planted(monkeypatch):
    """Makes tidy see one file with the given path and text instead of the repository's."""

    def plant(path, text):
        path = pathlib.Path(path)
        real = tidy.read.__wrapped__
        monkeypatch.setattr(tidy, "files", lambda: [path])
        monkeypatch.setattr(tidy, "read", lambda asked: text if asked == path else real(asked))

    return plant


@pytest.mark.parametrize("check, path, text", [
    (tidy.check_layers, "src/raft/a.cc", '#include "io/event_loop.h"\n'),
    (tidy.check_layers, "src/nowhere/a.cc", ""),
    (tidy.check_file_sizes, "src/raft/a.cc", "\n" * 701),
    (tidy.check_function_sizes, "src/raft/a.cc", "void f(int a) {\n" + "    a++;\n" * 70 + "}\n"),
    (tidy.check_machine_paths, "README.md", "see /ro" + "ot/x"),
    (tidy.check_registry_hosts, "README.md", "https://pypi." + "org/x"),
    (tidy.check_unfinished_marks, "src/raft/a.cc", "// TO" + "DO: all\n"),
    (tidy.check_no_coroutines, "src/raft/a.cc", "co_await x;\n"),
    (tidy.check_headers, "src/raft/a.h", "#pragma once\n"),
    (tidy.check_headers, "src/raft/a.h", "// What it is.\n"),
    (tidy.check_dead_headers, "src/raft/a.h", "// What it is.\n#pragma once\n"),
    (tidy.check_links, "README.md", "[x](no/such/file.md)"),
    (tidy.check_names, "src/raft/util.h", ""),
])
def test_a_planted_fault_is_found(planted, check, path, text):
    planted(path, text)
    assert check() != []


def test_a_short_function_after_a_long_comment_is_no_fault(planted):
    planted("src/raft/a.cc", "// x\n" * 80 + "void f(int a) {\n    a++;\n}\n")
    assert tidy.check_function_sizes() == []
