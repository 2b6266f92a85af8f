"""What a process has besides objects: environment, directory, search path, hooks, logging."""

import asyncio
import logging
import os
import signal
import sys
import threading
import warnings
import weakref

from .root import ObjectRoot, Root, ValueRoot


class SearchPath(ValueRoot):
    prefix = "x:sys.path"
    label = "sys.path"

    def read(self):
        return [p for p in sys.path if isinstance(p, str)]

    def set(self, value):
        sys.path[:] = value


class Environment(ValueRoot):
    """Only what differs from the environment at adoption: hosts may differ in the rest."""

    prefix = "x:environ"
    label = "os.environ"

    def __init__(self):
        super().__init__()
        self._start = {}
        self._raw = self._value = None

    def take_baseline(self):
        self._start = dict(os.environ)
        self._raw = None
        super().take_baseline()

    def read(self):
        raw = os.environ._data  # the undecoded mapping, which is cheap to compare
        if raw == self._raw:
            return self._value
        now = dict(os.environ)
        changed = {k: v for k, v in now.items() if self._start.get(k) != v}
        changed.update(dict.fromkeys(self._start.keys() - now.keys()))
        self._raw, self._value = dict(raw), changed
        return changed

    def set(self, value):
        for name in self.read().keys() - value.keys():
            self._put(name, self._start.get(name))
        for name, text in value.items():
            self._put(name, text)

    def _put(self, name, text):
        if text is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = text


class Directory(ValueRoot):
    prefix = "x:cwd"
    label = "working directory"

    def read(self):
        try:
            return os.getcwd()
        except OSError:
            return None

    def set(self, value):
        if value is not None:
            os.chdir(value)


class RecursionLimit(ValueRoot):
    """Deep objects may need it to be made."""

    prefix = "x:recursion"
    label = "recursion limit"

    def read(self):
        return sys.getrecursionlimit()

    def set(self, value):
        sys.setrecursionlimit(value)


class LoggingLevels(ValueRoot):
    """Level, propagation and disabling of every logger that differs from its creation."""

    prefix = "x:logging"
    label = "logging"

    def __init__(self):
        super().__init__()
        self._start = {}

    def take_baseline(self):
        self._start = self._levels()
        super().take_baseline()

    def _levels(self):
        levels = {"": self._of(logging.root), "//": logging.root.manager.disable}
        for name, logger in list(logging.root.manager.loggerDict.items()):
            if isinstance(logger, logging.Logger):
                levels[name] = self._of(logger)
        return levels

    @staticmethod
    def _of(logger):
        return (logger.level, logger.propagate, logger.disabled)

    def read(self):
        fresh = (0, True, False)
        return {k: v for k, v in self._levels().items() if v != self._start.get(k, fresh)}

    def set(self, value):
        for name, state in value.items():
            if name == "//":
                logging.disable(state)
                continue
            logger = logging.getLogger(name or None)
            logger.setLevel(state[0])
            logger.propagate, logger.disabled = state[1:]


class WarningFilters(ValueRoot):
    prefix = "x:warnings"
    label = "warnings"

    def read(self):
        return list(warnings.filters)

    def set(self, value):
        warnings.filters[:] = value
        invalidate = getattr(warnings, "_filters_mutated", None) or getattr(
            warnings, "_filters_mutated_lock_held", None
        )
        if invalidate is not None:
            invalidate()


_SIGNALS = [signal.SIGALRM, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]


class Hooks(ObjectRoot):
    """sys.excepthook and friends, and signal handlers, where user code has replaced them."""

    prefix = "x:hooks"
    label = "hooks"

    def __init__(self):
        super().__init__()
        self._start = {}

    def _hooks(self):
        hooks = {
            "excepthook": sys.excepthook,
            "unraisablehook": sys.unraisablehook,
            "threading.excepthook": threading.excepthook,
        }
        for number in _SIGNALS:
            hooks[f"signal {int(number)}"] = signal.getsignal(number)
        return hooks

    def take_baseline(self):
        self._start = self._hooks()

    def read(self):
        return {k: v for k, v in self._hooks().items() if v is not self._start[k]}

    def apply(self, key, value):
        for name, start in self._start.items():
            hook = value.get(name, start)
            if name.startswith("signal "):
                if hook is not None:
                    signal.signal(int(name[7:]), hook)
            elif name == "threading.excepthook":
                threading.excepthook = hook
            else:
                setattr(sys, name, hook)


class LastError(ObjectRoot):
    """sys.last_value and friends, for what looks at the error of the cell before. No traceback."""

    prefix = "x:sys.last"
    label = "sys"

    _NAMES = ("last_type", "last_value", "last_exc")

    def read(self):
        return {name: getattr(sys, name) for name in self._NAMES if hasattr(sys, name)}

    def apply(self, key, value):
        for name, item in value.items():
            setattr(sys, name, item)
        if value:
            sys.last_traceback = None


class Background(Root):
    """Threads and asyncio tasks that user code started and that still run: reported, once each."""

    label = "threads"

    def __init__(self, engine):
        self._engine = engine
        self._known = weakref.WeakSet()
        self._new = []

    def take_baseline(self):
        self._known = weakref.WeakSet(threading.enumerate())

    def walk(self, walk):
        self._new = []
        for thread in threading.enumerate():
            if thread in self._known:
                continue
            self._known.add(thread)
            if not isinstance(thread, threading._DummyThread) and self._is_users(thread):
                self._note(f"(thread {thread.name})", "a thread still runs", thread)
        for task in self._tasks():
            if task not in self._known:
                self._known.add(task)
                self._note(f"(task {task.get_name()})", "an asyncio task is pending", task)

    def _note(self, path, reason, obj):
        kind = f"{type(obj).__module__}.{type(obj).__qualname__}"
        self._new.append({"path": path, "type": kind, "reason": f"{reason}, on this replica only"})

    def _is_users(self, thread):
        """Made by user code: libraries' pools and IPython's own threads are not the user's business."""
        target = getattr(thread, "_target", None) or type(thread).run
        function = getattr(target, "__func__", target)
        return getattr(function, "__globals__", None) is self._engine.context.namespace

    def _tasks(self):
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        for task in asyncio.all_tasks(loop):
            frame = getattr(task.get_coro(), "cr_frame", None)
            if frame is not None and frame.f_globals is self._engine.context.namespace:
                if task is not asyncio.current_task(loop):
                    yield task

    def emit(self, delta):
        new, self._new = self._new, []
        return new
