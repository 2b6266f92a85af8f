"""A small process that forks interpreters: python -m nbos_kernel.zygote --socket PATH

It imports ipykernel (and what --preload names) once, then waits for JSON lines on the agent's
socket and forks. It never starts a thread, an event loop or a ZeroMQ context of its own: those do
not survive a fork. When it ends its children end with it (PR_SET_PDEATHSIG).

When the socket closes the agent is gone. With a --lifeline (a pipe whose other end is held by the
process that starts agents again) the zygote stays, for its children: it ends with the last of them,
or when the lifeline breaks, because then nobody will come for them. Without one it ends at once.

    {"op": "fork", "token": T, "dir": D, "state_socket": PATH}  ->  {"token": T, "pid": P}
    a child has ended  ->  {"token": T, "pid": P, "exit": code, "signal": n, "why": text}

`why` is there when the child is known to have run out of memory.
"""

import argparse
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys

from . import memory

PR_SET_PDEATHSIG = 1
# What ipykernel imports only while it starts. None of them starts a thread.
LATE_IMPORTS = (
    *("ipykernel.debugger", "IPython.core.debugger", "IPython.core.oinspect", "pdb", "faulthandler"),
    *("IPython.core.completerlib", "IPython.extensions.storemagic", "IPython.utils.wildcard"),
    *("tornado.platform.asyncio", "tornado.locks", "tornado.queues"),
    "jedi",
)
LINE_BYTES_MAX = 1 << 20
_SEED_IS_OURS = "NBOS_HASH_SEED_IS_OURS"


class Zygote:
    def __init__(self, path, lifeline=None):
        self._lifeline = lifeline
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.connect(path)
        self._children = {}  # pid -> token
        self._pending = b""
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._deaths = memory.Deaths()
        self._libc = ctypes.CDLL(None, use_errno=True)

    def serve(self):
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self._sock, self._wake_read], [], [])
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            self._reap()
            if self._sock in ready and not self._read():
                break
        if self._lifeline is not None:
            self._sock = None
            self._outlive()

    def _outlive(self):
        """Nobody reads the standard error of the children any more: so that none of them waits."""
        while self._children:
            ready, _, _ = select.select([self._wake_read, self._lifeline, 2], [], [])
            if self._lifeline in ready:
                return
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            if 2 in ready:
                os.read(2, 65536)
            self._reap()

    def _read(self):
        try:
            data = self._sock.recv(65536)
        except OSError:
            return False
        if not data:
            return False
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > LINE_BYTES_MAX:
            raise ValueError(f"a request is longer than {LINE_BYTES_MAX} bytes")
        for line in filter(None, lines):
            self._handle(json.loads(line))
        return True

    def _handle(self, request):
        if request.get("op") != "fork":
            self._say({"error": f"unknown op {request.get('op')!r}"})
            return
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._say({"token": request["token"], "error": f"cannot fork: {error}"})
            return
        if pid == 0:
            self._child(request, parent)
        self._children[pid] = request["token"]
        self._say({"token": request["token"], "pid": pid})

    def _say(self, message):
        if self._sock is None:
            return
        try:
            self._sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # the agent is gone; serve() sees it, too

    def _reap(self):
        while self._children:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            report = {
                "token": self._children.pop(pid, None),
                "pid": pid,
                "exit": max(code, 0),
                "signal": max(-code, 0),
            }
            if code < 0 and (why := self._deaths.why(-code, usage.ru_maxrss)):
                report["why"] = why
            self._say(report)

    def _child(self, request, parent):
        """Becomes an interpreter. Never returns."""
        code = 1
        try:
            os.setsid()
            self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)  # the zygote died before the line above
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._sock.detach()
            _close_descriptors()
            from .app import serve
            from .interpreter import reseed

            reseed()
            serve(request["dir"], request["state_socket"], request["token"])
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc(file=sys.__stderr__)
        finally:
            try:
                sys.__stdout__.flush()
                sys.__stderr__.flush()
            finally:
                os._exit(code)


def _close_descriptors():
    """All but stdin (now /dev/null), stdout and stderr (the agent's log)."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                pass  # the descriptor of the listing itself


def _fix_hash_seed(argv):
    """The order of sets of strings must be the same on every replica, so the seed is fixed."""
    if os.environ.get("PYTHONHASHSEED", "random") == "random":
        environment = dict(os.environ, PYTHONHASHSEED="0", **{_SEED_IS_OURS: "1"})
        os.execve(sys.executable, [sys.executable, "-m", "nbos_kernel.zygote", *argv], environment)
    if os.environ.pop(_SEED_IS_OURS, None):
        del os.environ["PYTHONHASHSEED"]  # what cells start is none of our business


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="nbos_kernel.zygote", description=__doc__.splitlines()[0])
    parser.add_argument("--socket", required=True, help="the agent's zygote socket")
    parser.add_argument("--lifeline", type=int, help="a descriptor that breaks when nobody is left")
    parser.add_argument("--memory-mib", type=int, default=0, help="that user code may take; 0: no limit")
    parser.add_argument("--preload", default="", help="modules to import first, comma-separated")
    args = parser.parse_args(argv)
    _fix_hash_seed(argv)
    memory.set_limit(args.memory_mib)
    if sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
    importlib.import_module("nbos_kernel.app")
    # Or the debugger writes advice to the log of every interpreter, also when one starts.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    for name in LATE_IMPORTS:
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # an optional part, or another version of IPython
    for name in filter(None, args.preload.split(",")):
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"nbos_kernel.zygote: cannot preload {name}: {error}", file=sys.stderr)
    zygote = Zygote(args.socket, args.lifeline)
    gc.collect()
    gc.freeze()
    zygote.serve()


if __name__ == "__main__":
    main()
