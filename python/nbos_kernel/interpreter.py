"""The kernel of an interpreter: stock ipykernel, plus run, capture and delta around each cell.

An executor gets a `run` frame and an execute_request with the same message id, on two sockets and
in any order. User code starts only when both are here and the interpreter's state is the one the
cell is based on. When it ends, what it changed is sent as a `delta` frame, then the reply leaves.

Threads  Everything here runs on the main thread. Frames arrive through the main loop, in order.
"""

import asyncio
import os
import platform
import random
import secrets
import signal
import sys
import time
from contextlib import contextmanager

import ipykernel
from ipykernel.ipkernel import IPythonKernel

from . import frames, memory
from .engine import Engine
from .interrupts import Interrupts
from .kept import Kept

RUN_WAIT_S = 10.0  # how long an execute_request waits for its run frame
NOTICE_PATHS_MAX = 8  # how many objects the notice under a cell names

# What user code raises, also into IPython's; not GeneratorExit, by which coroutines are closed.
_ANYTHING = (Exception, KeyboardInterrupt, SystemExit, asyncio.CancelledError)


class NbosKernel(IPythonKernel):
    """See the module. `attach` gives it its link and announces it to the agent."""

    _link = None
    _interrupts = None

    # ---- life cycle ------------------------------------------------------------------------------

    @property
    def banner(self):
        """IPython draws a tip of the day for it, and from the generator that is user state."""
        state = random.getstate()
        try:
            return super().banner
        finally:
            random.setstate(state)

    def attach(self, link):
        self._link = link
        self._engine = Engine(self.shell)
        self._interrupts = Interrupts(self.shell)
        self._sequence = None  # unknown until the first load, apply or run
        self._run_waiter = None
        self._run = None
        self._delta_is_due = self._has_begun = False
        self._unsupported = []
        self._owner = None  # whose this interpreter is: kernel, replica, session
        self._kept = self.session.kept = Kept()

    def start(self):
        super().start()
        if self._link is None:
            return
        loop = asyncio.get_event_loop()
        at_once = {
            frames.RESUME: self._repeat,
            frames.SETTLED: self._forget,
            frames.EXPECT: self._expect,
        }

        def attached(is_there):
            self._kept.attached(is_there)
            loop.call_soon_threadsafe(self._end_run_wait)

        self._link.start(loop.call_soon_threadsafe, self._on_frame, at_once, self._hello, attached)
        # From the loop, so that the agent hears of it only when requests can be served.
        loop.call_soon(self._link.send, frames.HELLO, self._hello())
        loop.call_soon(self._engine.prepare)  # while nobody waits

    def _hello(self):
        hello = {
            "pid": os.getpid(),
            "token": self._link.token,
            "python": platform.python_version(),
            "ipykernel": ipykernel.__version__,
            "engine": self._engine.name,
        }
        if self._owner is not None:  # its agent was started again
            run = self._kept.run
            fields = ("cell", "epoch", "base")
            hello["resume"] = {
                **self._owner,
                "known": self._sequence is not None,
                "sequence": self._sequence or 0,
                "run": {name: run[name] for name in fields} if run else {},
                "expects": self._kept.expects,
            }
        return hello

    def _repeat(self, _header):
        """Says again what the agent before may not have brought into the log. In the link's thread.

        The agent reads no output until it has heard the end of it: that is said whatever happens."""
        try:
            self._repeat_all()
        finally:
            self._link.send(frames.REPEATED, {})

    def _repeat_all(self):
        lost, messages, delta = self._kept.repeat()
        if lost:
            text = f"({lost} outputs were lost while the agent of this host was down)\n"
            notice = self.session.msg("stream", {"name": "stderr", "text": text}, messages[0][1]["parent_header"])
            messages.insert(0, ("iopub", notice, []))
        for channel, message, buffers in messages:
            try:
                body = frames.pack_parts([*self.session.serialize(message), *buffers])
            except Exception:  # the cell has changed since what it displayed
                self.log.error("an output cannot be repeated", exc_info=True)
                continue
            self._link.send(frames.MESSAGE, {"channel": channel}, body)
        if delta is not None:
            self._link.send(frames.DELTA, *delta)

    def _expect(self, claim):
        self._kept.expects = claim

    def _forget(self, header):
        self._kept.forget(header["cell"])

    def _on_frame(self, kind, header, body):
        if kind == frames.RUN:
            self._on_run(header)
        elif kind == frames.ADOPT:
            self._answer(frames.ADOPTED, {}, self._adopt, header)
        elif kind == frames.LOAD:
            self._answer(frames.APPLIED, header, self._load, header, body)
        elif kind == frames.APPLY:
            self._answer(frames.APPLIED, header, self._apply, header, body)

    def _answer(self, kind, header, work, *args):
        error = None
        with _no_interrupts():
            try:
                work(*args)
            except BaseException as failure:
                self.log.error("frame failed", exc_info=True)
                error = f"{type(failure).__name__}: {failure}"
        answer = {"ok": error is None, "error": error}
        if kind == frames.APPLIED:
            answer["sequence"] = header["sequence"]
        self._link.send(kind, answer)

    def _adopt(self, header):
        os.environ.update(header.get("env") or {})
        if header.get("cwd"):
            os.chdir(header["cwd"])
        self.session.session = header["session"]
        # A message's id is made of the session, the process id and a number. Replicas share the
        # session and, each in its host's own namespace, perhaps the process id.
        self.session.message_count = secrets.randbits(40)
        if header.get("username"):
            self.session.username = header["username"]
        if header.get("kernel"):
            self.ident = header["kernel"]
            self.shell.displayhook.topic = self._topic("execute_result")
        name = os.environ.get("JPY_SESSION_NAME")
        if name:
            self.shell.user_ns["__session__"] = name
        reseed()
        self._engine.adopt(str(header.get("replica", "")))
        self._sequence = 0
        self._owner = {name: header.get(name) for name in ("kernel", "replica", "session")}
        self._link.outlives_agent_s = float(header.get("outlives_agent_s") or 0)

    def _load(self, header, body):
        self._kept.forget()
        self._sequence = None
        self._engine.load(body)
        self._sequence = header["sequence"]

    def _apply(self, header, body):
        if header["base"] != self._sequence:
            raise RuntimeError(
                f"the delta is based on sequence {header['base']}, this interpreter has {self._sequence}"
            )
        self._kept.forget()
        self._sequence = None
        self._engine.apply(body)
        self._sequence = header["sequence"]

    # ---- a cell ----------------------------------------------------------------------------------

    def _on_run(self, header):
        self._kept.offer(header)
        self._end_run_wait()

    def _end_run_wait(self):
        if self._run_waiter is not None and not self._run_waiter.done():
            self._run_waiter.set_result(None)

    async def _expect_run(self, msg_id):
        """The run frame of this request; None when it does not come any more."""
        deadline, losses = time.monotonic() + RUN_WAIT_S, self._kept.losses
        while (run := self._kept.offered(msg_id)) is None:
            left = deadline - time.monotonic()
            if left <= 0 or losses != self._kept.losses:
                return None
            self._run_waiter = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._run_waiter, left)
            except asyncio.TimeoutError:
                return None
            finally:
                self._run_waiter = None
        return run

    async def execute_request(self, stream, ident, parent):
        run = await self._expect_run(parent["header"]["msg_id"])
        if run is not None and run["base"] != self._sequence:
            problem = f"this interpreter has sequence {self._sequence}, the cell needs {run['base']}"
            self._kept.offer(None)
            self._send_delta(run, b"", 0.0, problem)
            self._refuse(stream, ident, parent, problem)
            return
        if run is None or not self._kept.begin(run):
            # Of an agent that is gone; the next one knows from the hello that this cell did not begin.
            self.log.warning("a cell that nobody waits for here was dropped")
            return
        self._run = run
        self._delta_is_due, self._has_begun = True, False
        self._unsupported = []
        leave_out_counts(self.shell, run.get("spent_counts", 0))
        try:
            await super().execute_request(stream, ident, parent)
            failure = RuntimeError("the request is malformed") if self._delta_is_due else None
        except _ANYTHING as error:
            failure = error
        if failure is not None:
            self._answer_all_the_same(stream, ident, parent, failure)
        self._run = None

    def _answer_all_the_same(self, stream, ident, parent, failure):
        """Whatever went wrong, the agent waits for one delta and one reply."""
        self._interrupts.refuse()
        self.log.error("cell failed outside of its code: %r", failure, exc_info=failure)
        if self._delta_is_due and self._has_begun:
            self._capture()
        elif self._delta_is_due:
            self._delta_is_due = False
            self._sequence = None  # the engine may have stopped half-way
            self._send_delta(self._run, b"", 0.0, f"{type(failure).__name__}: {failure}")
        content = self._failed(failure, self.execution_count - 1)
        self.session.send(stream, "execute_reply", content, parent, ident=ident)

    def _refuse(self, stream, ident, parent, problem):
        content = {
            "status": "error",
            "ename": "NotebookOSError",
            "evalue": problem,
            "traceback": [f"NotebookOSError: {problem}. The cell did not run; run it again."],
            "execution_count": self.execution_count - 1,
            "user_expressions": {},
            "payload": [],
        }
        self.session.send(stream, "execute_reply", content, parent, ident=ident)

    async def do_execute(self, code, silent, *args, **kwargs):
        if self._run is None:
            return await super().do_execute(code, silent, *args, **kwargs)
        self._engine.before_cell()
        self._has_begun = True
        count = self.execution_count
        try:
            self._interrupts.allow()
            with memory.limited():
                reply = await super().do_execute(code, silent, *args, **kwargs)
        except _ANYTHING as error:
            # Raised in user code that IPython does not guard: the cell still gets a reply.
            reply = self._failed(error, count)
        self._interrupts.refuse()
        self._capture()
        return reply

    @staticmethod
    def _failed(error, count):
        name = type(error).__name__
        return {
            "status": "error",
            "ename": name,
            "evalue": str(error),
            "traceback": [f"{name}: {error}" if str(error) else name],
            "execution_count": count,
            "user_expressions": {},
            "payload": [],
        }

    def _capture(self):
        started = time.perf_counter()
        error = None
        delta = b""
        try:
            delta, self._unsupported = self._engine.capture()
        except MemoryError:
            error = memory.told()
        except BaseException as failure:
            self.log.error("capture failed", exc_info=True)
            error = f"{type(failure).__name__}: {failure}"
        milliseconds = (time.perf_counter() - started) * 1e3
        self._sequence = self._run["base"] + 1 if error is None else None
        self._delta_is_due = False
        self._send_delta(self._run, delta, milliseconds, error)
        self._notice(error)

    def _send_delta(self, run, delta, milliseconds, error):
        header = {
            "cell": run["cell"],
            "epoch": run["epoch"],
            "msg_id": run["msg_id"],
            "unsupported": self._unsupported,
            "ms": round(milliseconds, 3),
            "error": error,
        }
        self._kept.add_delta(header, delta)
        self._link.send(frames.DELTA, header, delta)

    def _notice(self, error):
        """Tells the user under the cell what other replicas will not have."""
        if error is not None:
            text = f"NotebookOS could not save what this cell changed: {error}\n"
        elif self._unsupported:
            text = describe(self._unsupported)
        else:
            return
        if sys.stdout is not None:
            sys.stdout.flush()
        self.session.send(
            self.iopub_socket,
            "stream",
            {"name": "stderr", "text": text},
            parent=self.get_parent("shell"),
            ident=self._topic("stream"),
        )

    def finish_metadata(self, parent, metadata, reply_content):
        metadata = super().finish_metadata(parent, metadata, reply_content)
        if self._run is not None and self._unsupported:
            metadata["notebookos"] = {"unsupported": self._unsupported}
        return metadata

    def _input_request(self, *args, **kwargs):
        try:
            return super()._input_request(*args, **kwargs)
        finally:
            self._kept.input_came()

    def pre_handler_hook(self):
        if self._interrupts is None:
            return super().pre_handler_hook()
        self.saved_sigint_handler = self._interrupts.begin()
        if self.get_parent("shell")["header"]["msg_type"] != "execute_request":
            self._interrupts.allow()  # callbacks of widgets; a cell allows them when it begins

    def post_handler_hook(self):
        if self._interrupts is not None:
            self._interrupts.refuse()
        super().post_handler_hook()

    @contextmanager
    def _cancel_on_sigint(self, future):
        """While a cell awaits. Stock's handler does not wake the loop, which may sleep for hours."""
        loop = asyncio.get_running_loop()
        wake = loop.call_soon_threadsafe
        saved = signal.signal(signal.SIGINT, lambda *_: wake(future.cancel))
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, saved)

    def _abort_queues(self, *args, **kwargs):
        """The cell log decides what happens to the cells behind a failed one, not this process."""

    @property
    def _supports_kernel_subshells(self):
        return False


def leave_out_counts(shell, count):
    """Lost cells have shown these execution counts: In and the counter go on behind them."""
    manager = shell.history_manager
    for _ in range(count):
        manager.input_hist_parsed.append("")
        manager.input_hist_raw.append("")
        shell.execution_count += 1


def describe(unsupported):
    lines = [
        f"  {item['path']} ({item['type']}): {item['reason']}"
        for item in unsupported[:NOTICE_PATHS_MAX]
    ]
    if len(unsupported) > NOTICE_PATHS_MAX:
        lines.append(f"  and {len(unsupported) - NOTICE_PATHS_MAX} more")
    return "Not replicated, lost if this host fails:\n" + "\n".join(lines) + "\n"


def reseed():
    """Fresh random states: forked interpreters share those of their zygote."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.seed()


class _no_interrupts:
    """SIGINT is for user code: while state is applied it is dropped, whatever that imports."""

    def __enter__(self):
        self._saved = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __exit__(self, *exc):
        signal.signal(signal.SIGINT, self._saved)
