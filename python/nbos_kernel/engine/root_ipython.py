"""IPython's own state: counters, input history, the sources of cells for tracebacks."""

import linecache
import re
import sys

from . import table_format as fmt
from .root import ObjectRoot, Root, ValueRoot

_CACHED = re.compile(r"_i{1,3}|_i?\d+")
_UNDERS = ("_", "__", "___")


class IPythonState(ValueRoot):
    """Execution count, `_i` and friends, and whether `_` is still IPython's to move."""

    prefix = "x:ipython"
    label = "IPython"

    def __init__(self, engine):
        super().__init__()
        self._shell = engine.shell

    def read(self):
        shell = self._shell
        manager, hook, names = shell.history_manager, shell.displayhook, shell.user_ns
        return (
            shell.execution_count,
            manager._i00,
            manager._i,
            manager._ii,
            manager._iii,
            tuple(getattr(hook, u, None) is names.get(u, self) for u in _UNDERS),
        )

    def set(self, value):
        shell = self._shell
        manager, hook, names = shell.history_manager, shell.displayhook, shell.user_ns
        shell.execution_count, manager._i00, manager._i, manager._ii, manager._iii, bound = value
        for under, is_bound in zip(_UNDERS, bound):
            setattr(hook, under, names.get(under) if is_bound else "")
            if is_bound and under in names:
                shell.user_ns_hidden[under] = names[under]
        for name in names:
            if name[:1] == "_" and _CACHED.fullmatch(name):
                shell.user_ns_hidden[name] = names[name]  # IPython's own, and not listed by %who


class History(Root):
    """One key a cell, "i:NUMBER": (input, raw input, text of the output or None)."""

    prefix = "i:"
    family = True

    def __init__(self, engine):
        self._shell = engine.shell
        self._sent = []
        self._changes = {}
        self._drop = 0

    def _entries(self):
        manager = self._shell.history_manager
        texts = manager.output_hist_reprs
        pairs = zip(manager.input_hist_parsed, manager.input_hist_raw)
        return [(parsed, raw, texts.get(n)) for n, (parsed, raw) in enumerate(pairs)]

    def take_baseline(self):
        self._sent = self._entries()

    def walk(self, walk):
        self._changes = {}
        now, sent = self._entries(), self._sent
        if now == sent:
            return
        for number, entry in enumerate(now):
            if number >= len(sent) or sent[number] != entry:
                self._changes[number] = walk.root_section("In", entry)[0]
        self._drop = len(sent) - len(now)
        self._now = now

    def emit(self, delta):
        if self._changes or self._drop > 0:
            for number, data in self._changes.items():
                delta.put(f"i:{number}", fmt.encode_value([data]))
            for number in range(len(self._now), len(self._sent)):
                delta.delete(f"i:{number}")
            self._sent = self._now
        self._changes, self._drop = {}, 0
        return []

    def rebase(self, new):
        self._changes, self._drop = {}, 0
        self._sent = self._entries()

    def apply(self, key, value):
        number = int(key[2:])
        parsed, raw, text = value
        manager = self._shell.history_manager
        for entries, entry in ((manager.input_hist_parsed, parsed), (manager.input_hist_raw, raw)):
            while len(entries) <= number:
                entries.append("")
            entries[number] = entry
        if text is not None:
            manager.output_hist_reprs[number] = text

    def forget(self, key):
        number = int(key[2:])
        manager = self._shell.history_manager
        for entries in (manager.input_hist_parsed, manager.input_hist_raw):
            if len(entries) > number:
                del entries[number:]
        manager.output_hist_reprs.pop(number, None)

    def reset(self):
        manager = self._shell.history_manager
        manager.input_hist_parsed[:] = manager.input_hist_raw[:] = [""]
        manager.output_hist_reprs.clear()


class CellSources(Root):
    """What tracebacks and inspect show of earlier cells: "c:FILE" -> (cell number, source)."""

    prefix = "c:"
    family = True

    def __init__(self, engine):
        self._compile = engine.shell.compile
        self._sent = {}
        self._changes = {}

    def _numbers(self):
        return getattr(self._compile, "_filename_map", {})

    def take_baseline(self):
        self._sent = dict(self._numbers())

    def walk(self, walk):
        self._changes = {}
        numbers = self._numbers()
        if numbers == self._sent:
            return
        for file, number in numbers.items():
            if self._sent.get(file) != number:
                lines = linecache.cache.get(file, (0, None, [], file))
                source = "".join(lines[2]) if len(lines) == 4 else ""
                self._changes[file] = (number, walk.root_section("In", (number, source))[0])

    def emit(self, delta):
        for file, (number, data) in self._changes.items():
            delta.put("c:" + file, fmt.encode_value([data]))
            self._sent[file] = number
        self._changes = {}
        return []

    def rebase(self, new):
        self._changes = {}
        self._sent = dict(self._numbers())

    def apply(self, key, value):
        number, source = value
        file = key[2:]
        self._numbers()[file] = number
        lines = source.splitlines(keepends=True)
        linecache.cache[file] = (len(source), None, lines, file)


class ShellSettings(ObjectRoot):
    """What magics set: inline figures, precision, extensions; and what user code hooked into IPython."""

    prefix = "x:shell"
    label = "IPython"

    def __init__(self, engine):
        super().__init__()
        self._shell = engine.shell
        self._context = engine.context
        self._extensions = set()
        self._precision = None
        self._callbacks = []  # (event, function) that an apply registered

    def _text_formatter(self):
        return self._shell.display_formatter.formatters["text/plain"]

    def take_baseline(self):
        self._extensions = set(self._shell.extension_manager.loaded)
        self._precision = self._text_formatter().float_precision

    def read(self):
        found = {}
        if self._figures_are_inline():
            found["inline"] = True
        if self._text_formatter().float_precision != self._precision:
            found["precision"] = self._text_formatter().float_precision
        extensions = sorted(set(self._shell.extension_manager.loaded) - self._extensions)
        if extensions:
            found["extensions"] = extensions
        callbacks = self._user_callbacks()
        if callbacks:
            found["callbacks"] = callbacks
        magics = self._user_magics()
        if magics:
            found["magics"] = magics
        return found

    def _figures_are_inline(self):
        backend = sys.modules.get("matplotlib_inline.backend_inline")
        callbacks = self._shell.events.callbacks.get("post_execute", ())
        return backend is not None and backend.flush_figures in callbacks

    def _is_users(self, function):
        function = getattr(function, "__func__", function)
        return getattr(function, "__globals__", None) is self._context.namespace

    def _user_callbacks(self):
        events = self._shell.events.callbacks.items()
        return [(name, f) for name, functions in events for f in functions if self._is_users(f)]

    def _user_magics(self):
        kinds = self._shell.magics_manager.magics.items()
        return [(k, n, f) for k, magics in kinds for n, f in magics.items() if self._is_users(f)]

    def apply(self, key, value):
        shell = self._shell
        if value.get("inline") and not self._figures_are_inline():
            shell.enable_matplotlib("inline")
        precision = value.get("precision", self._precision)
        if precision != self._text_formatter().float_precision:
            self._text_formatter().float_precision = precision
        for name in value.get("extensions", ()):
            if name not in shell.extension_manager.loaded:
                shell.extension_manager.load_extension(name)
        for event, function in self._callbacks:
            if function in shell.events.callbacks[event]:
                shell.events.unregister(event, function)
        self._callbacks = value.get("callbacks", [])
        for event, function in self._callbacks:
            shell.events.register(event, function)
        for kind, name, function in value.get("magics", ()):
            shell.magics_manager.magics[kind][name] = function
