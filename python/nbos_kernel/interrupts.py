"""SIGINT is for user code only.

Python raises KeyboardInterrupt wherever the main thread happens to be. ipykernel logs one that ends
up in its own code and goes on, so that a cell would end without its delta or its reply, and the agent
would wait for ever. So the handler here looks at what it has interrupted: it raises only beneath a
frame of user code, and nothing can rise in the code around it. A signal that comes before the cell's
code begins, or between two of its statements, is kept and raised in the next statement.

User code may install handlers of its own; they hold until the end of the cell, as in stock ipykernel.

Threads  The main thread only: Python runs signal handlers nowhere else.
"""

import os
import signal
import sys

from IPython.core.events import EventManager

_SHUT_TRIES = 100

_python_handler = signal.default_int_handler
_current = None  # the Interrupts of this process


class Interrupts:
    """Of one kernel: `begin` a request, `allow` before user code, `refuse` after it."""

    def __init__(self, shell):
        global _current
        _current = self
        self._shell = shell
        self._pid = os.getpid()
        self._allowed = False
        self._pending = False
        # Whoever asks if SIGINT is as Python sets it (asyncio, unittest, pdb) hears that it is, and
        # user code that sets it back gets this handler.
        signal.default_int_handler = on_interrupt
        self._run_code, shell.run_code = shell.run_code, self._run_statement
        self._show_traceback, shell.showtraceback = shell.showtraceback, self._show_shorter_traceback

    def begin(self):
        """Returns the handler that was there before."""
        self._allowed = False
        self._pending = False
        return signal.signal(signal.SIGINT, on_interrupt)

    def allow(self):
        self._allowed = True

    def refuse(self):
        self._allowed = False
        for _ in range(_SHUT_TRIES):
            try:
                if signal.getsignal(signal.SIGINT) is not on_interrupt:
                    signal.signal(signal.SIGINT, on_interrupt)
                return
            except BaseException:
                pass  # raised by a handler of user code, which has just been called once more

    def on_signal(self, number, frame):
        if os.getpid() != self._pid:
            return _python_handler(number, frame)  # a process forked by user code
        if self._allowed and _is_under_user_code(frame, self._shell.user_global_ns):
            self._pending = False
            return _python_handler(number, frame)
        self._pending = True

    async def _run_statement(self, code, *args, **kwargs):
        if self._pending and self._allowed:
            self._pending = False
            code = _raising_in(code)
        return await self._run_code(code, *args, **kwargs)

    def _show_shorter_traceback(self, exc_tuple=None, *args, **kwargs):
        _leave_out_handler(sys.exc_info()[1] if exc_tuple is None else exc_tuple[1])
        return self._show_traceback(exc_tuple, *args, **kwargs)


def on_interrupt(number, frame):
    """A function of a module, so that a variable that holds it can be carried by name."""
    if _current is None:
        return _python_handler(number, frame)
    _current.on_signal(number, sys._getframe(1) if frame is None else frame)


# What EventManager.trigger calls besides callbacks, to report that one failed.
_REPORTS = ("write", "showtraceback", "_show_shorter_traceback")


def _is_under_user_code(frame, namespace):
    """Is a cell's code on the stack, or a callback after it (drawing figures may take long)?"""
    while frame is not None:
        if frame.f_globals is namespace:
            return True
        caller = frame.f_back
        if caller is not None and caller.f_code is EventManager.trigger.__code__:
            if frame.f_code.co_name not in _REPORTS:
                return True  # trigger catches what is raised there
        frame = caller
    return False


def _raising_in(code):
    """A statement that raises where `code` begins."""
    lines = "\n" * (code.co_firstlineno - 1)
    return compile(lines + "raise KeyboardInterrupt", code.co_filename, "exec")


def _leave_out_handler(error):
    """Users see the line that was interrupted, not this file."""
    trace = getattr(error, "__traceback__", None)
    while trace is not None and trace.tb_next is not None:
        if trace.tb_next.tb_frame.f_code is on_interrupt.__code__:
            trace.tb_next = None
        trace = trace.tb_next
