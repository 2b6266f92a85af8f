"""The memory that user code may take (`nbos up --interpreter-mib`), and the name of running out of it.

The limit is on what the process has allocated (RLIMIT_DATA: writable memory of its own; address
space that is only reserved, as CUDA does it, and files are not counted). It holds while user code
runs: that gets a MemoryError, and the kernel goes on. It is lifted while a cell's effects are saved,
which may need as much again for a moment. Where that is not enough, or the system kills the process,
the zygote says that it ran out of memory.

Threads  The main thread.
"""

import re
import resource
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20
_TO_TIDY_UP = 16 * MIB  # for a cell that begins above the limit, so that it can delete something
_NEAR = 0.7  # of the limit in use: stacks of threads count for it, and are hardly used
_DEATHS = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)  # of C code that got no memory

_limit_mib = 0  # of this process; 0: none
_lifted = None  # what to put back while user code is limited


def set_limit(mib):
    global _limit_mib
    _limit_mib = mib


@contextmanager
def limited():
    global _lifted
    if not _limit_mib:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = max(_limit_mib * MIB, _allocated() + _TO_TIDY_UP)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    _lifted = (soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        lift()


def lift():
    """Also before its end, to report an error."""
    global _lifted
    if _lifted is not None:
        resource.setrlimit(resource.RLIMIT_DATA, _lifted)
        _lifted = None


def _allocated():
    text = Path("/proc/self/status").read_text()
    return int(re.search(r"^VmData:\s+(\d+)", text, re.M)[1]) << 10


def told():
    """What a user is told, also by the zygote."""
    limit = f"limit {_limit_mib} MiB" if _limit_mib else "all that the system has"
    return f"the kernel ran out of memory ({limit})"


def name_error(error):
    """A MemoryError of a process with a limit says which."""
    if _limit_mib and type(error) is MemoryError and told() not in str(error):
        error.args = (f"{error}; {told()}" if str(error) else told(),)


def install(shell):
    show = shell.showtraceback

    def showtraceback(exc_tuple=None, *args, **kwargs):
        error = sys.exc_info()[1] if exc_tuple is None else exc_tuple[1]
        if isinstance(error, MemoryError):
            lift()
            name_error(error)
        return show(exc_tuple, *args, **kwargs)

    shell.showtraceback = showtraceback


class Deaths:
    """For the zygote: which of its children have died for want of memory."""

    def __init__(self):
        self._killed = _killed_by_system()

    def why(self, number, peak_kib):
        """A sentence, or None: for the end of a child by this signal, whose largest size this was."""
        before, self._killed = self._killed, _killed_by_system()
        if number == signal.SIGKILL and self._killed > before:
            return f"{told()}: the system killed it"
        if number in _DEATHS and _limit_mib and peak_kib > _limit_mib * 1024 * _NEAR:
            return f"{told()}: it was killed by {signal.Signals(number).name}"
        return None


def _killed_by_system():
    """How many processes Linux has killed because memory ran out, in a cgroup or altogether."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)", text, re.M)
    return int(found[1]) if found else 0
