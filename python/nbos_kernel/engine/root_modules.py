"""Modules: which ones are imported, and what user code has changed in them.

A library module is the same on every replica, so only changed attributes travel: those that user
code can have set (its own functions, classes and objects, and plain values under public names).
A module of the user's own, found through sys.path, is a second namespace: its variables are state.
"""

import sys
import types

from . import table_format as fmt
from .root import Root
from .types_of import ATOMS

_ABSENT = object()


class ImportedModules(Root):
    """"m:PREFIX.COUNT": names of modules that one cell imported. Standbys import them, too."""

    prefix = "m:"
    family = True

    def __init__(self, engine):
        self._engine = engine
        self._known = set()
        self._new = []

    def take_baseline(self):
        self._known = set(sys.modules)

    def walk(self, walk):
        self._new = []
        if len(sys.modules) == len(self._known) and self._known >= sys.modules.keys():
            return
        added = [name for name in list(sys.modules) if name not in self._known]
        context = self._engine.context
        self._new = [n for n in added if _importable(sys.modules.get(n), context)]
        self._known = set(sys.modules)
        self._data = walk.root_section("sys.modules", self._new)[0]

    def emit(self, delta):
        if self._new:
            delta.put("m:" + self._engine.new_id(), fmt.encode_value([self._data]))
        self._new = []
        return []

    def rebase(self, new):
        self._new = []
        self._known = set(sys.modules)

    def apply(self, key, value):
        import importlib

        for name in value:
            if name not in sys.modules:
                try:
                    importlib.import_module(name)
                except Exception:
                    pass  # whoever needs it becomes a stand-in that says so


_OWN = ("IPython", "ipykernel", "nbos_kernel", "zmq", "tornado", "jupyter_client", "jupyter_core")


def _importable(module, context):
    if getattr(module, "__name__", "").partition(".")[0] in _OWN:
        return False  # every interpreter has them
    return isinstance(module, types.ModuleType) and context.module_name(module) is not None


class Patches(Root):
    """"p:MODULE" and "p:MODULE:CLASS": attribute -> value, for what differs from a fresh import."""

    prefix = "p:"
    family = True

    def __init__(self, engine):
        self._engine = engine
        self._modules = {}  # name -> (module, attributes as imported)
        self._classes = {}  # (module name, class name) -> (class, attributes as first seen)
        self._sent = {}  # key -> (data, refs)
        self._changes = {}

    def take_baseline(self):
        for name, module in list(sys.modules.items()):
            self._watch(name, module, fresh=True)

    def _watch(self, name, module, fresh):
        if not isinstance(module, types.ModuleType) or name == "__main__":
            return
        if self._engine.context.module_name(module) != name:
            return
        attributes = vars(module)
        seen = dict(attributes)
        if not fresh:
            seen = {k: v for k, v in seen.items() if not self._is_users(v)}
        self._modules[name] = (module, seen)

    def _is_users(self, value):
        """Made by user code, so it cannot have come with a library."""
        if isinstance(value, types.FunctionType):
            return value.__globals__ is self._engine.context.namespace
        cls = value if isinstance(value, type) else type(value)
        return cls.__module__ == "__main__"

    # ---- out -------------------------------------------------------------------------------------

    def walk(self, walk):
        self._changes = {}
        self._unsupported = []
        found = {}
        if len(sys.modules) != len(self._modules):
            for name, module in list(sys.modules.items()):
                known = self._modules.get(name)
                if known is None or known[0] is not module:
                    self._watch(name, module, fresh=False)
        for name, (module, seen) in self._modules.items():
            if self._engine.context.is_library(name):
                changed = self._changed(vars(module), seen)
            else:
                changed = self._variables(name, module)
            if changed:
                found["p:" + name] = changed
        for key, cls, seen in self._classes_in_sight():
            changed = self._changed(vars(cls), seen)
            if changed:
                found[key] = changed
        self._compare(found, walk)

    def _changed(self, now, seen):
        if now == seen if type(now) is dict and _identical(now, seen) else False:
            return None
        changed = {}
        for key, value in list(now.items()):
            before = seen.get(key, _ABSENT)
            if before is not value and self._travels(key, value, before):
                changed[key] = value
        for key in seen:
            if key not in now:
                changed[key] = _Gone
        return changed

    def _travels(self, key, value, before=_ABSENT):
        """User code did it, as far as can be told; libraries fill in their own variables, too."""
        if self._is_users(value):
            return True
        if key.startswith("_") or type(value) not in ATOMS:
            return False
        return before is _ABSENT or type(before) is type(value)

    def _variables(self, name, module):
        """Everything in a module of the user's own but what its source defines anew on import."""
        out = {}
        for key, value in list(vars(module).items()):
            if key.startswith("__") or isinstance(value, types.ModuleType):
                continue
            if isinstance(value, (type, types.FunctionType)) and value.__module__ == name:
                continue
            out[key] = value
        return out

    def _classes_in_sight(self):
        """Library classes that the namespace or a module bound in it offers."""
        context = self._engine.context
        for value in list(context.namespace.values()):
            if isinstance(value, type):
                yield from self._class(value)
            elif isinstance(value, types.ModuleType):
                for inner in list(vars(value).values()):
                    if isinstance(inner, type):
                        yield from self._class(inner)

    def _class(self, cls):
        module = cls.__module__
        if module == "__main__" or not cls.__flags__ & (1 << 9):
            return
        key = f"p:{module}:{cls.__qualname__}"
        known = self._classes.get(key)
        if known is None or known[0] is not cls:
            if not self._engine.context._is_importable(cls):
                return
            seen = {k: v for k, v in vars(cls).items() if not self._is_users(v)}
            known = self._classes[key] = (cls, seen)
        yield key, cls, known[1]

    def _compare(self, found, walk):
        for key, changed in found.items():
            data, refs = walk.root_section(key[2:].replace(":", "."), changed)
            self._unsupported += walk.take_unsupported()
            before = self._sent.get(key)
            if before is None or before[0] != data:
                self._changes[key] = (data, refs)
            elif before[1] != refs:
                self._sent[key] = (data, refs)
        for key in self._sent:
            if key not in found:
                self._changes[key] = None

    def resend(self, moved):
        for key, (data, refs) in self._sent.items():
            if refs & moved and key not in self._changes:
                self._changes[key] = (data, refs)

    def emit(self, delta):
        for key, change in self._changes.items():
            if change is None:
                delta.delete(key)
                del self._sent[key]
            else:
                delta.put(key, fmt.encode_value([change[0]]))
                self._sent[key] = change
        self._changes = {}
        return self._unsupported

    def rebase(self, new):
        for key, change in self._changes.items():
            if change is not None:
                self._sent[key] = (b"", change[1]) if change[1] & new else change
        self._changes = {}

    # ---- in --------------------------------------------------------------------------------------

    def apply(self, key, value):
        target, seen = self._target(key)
        self._restore(target, seen, value)
        for name, item in value.items():
            if item is _Gone:
                if name in vars(target):
                    delattr(target, name)
            else:
                setattr(target, name, item)
        self._sent[key] = (b"", frozenset())

    def forget(self, key):
        target, seen = self._target(key)
        self._restore(target, seen, {})
        self._sent.pop(key, None)

    def _restore(self, target, seen, keep):
        """Undoes earlier patches that are not patches any more."""
        if seen is None:
            return
        for name, item in list(vars(target).items()):
            if name in keep or name.startswith("__") or seen.get(name, _ABSENT) is item:
                continue
            if not self._travels(name, item):
                continue
            if name in seen:
                setattr(target, name, seen[name])
            else:
                delattr(target, name)

    def _target(self, key):
        import importlib

        module_name, _, class_name = key[2:].partition(":")
        module = importlib.import_module(module_name)
        if module_name not in self._modules:
            self._watch(module_name, module, fresh=True)
        if not class_name:
            library = self._engine.context.is_library(module_name)
            return module, self._modules[module_name][1] if library else None
        target = module
        for part in class_name.split("."):
            target = getattr(target, part)
        known = self._classes.get(key)
        if known is None:
            seen = {k: v for k, v in vars(target).items() if not self._is_users(v)}
            known = self._classes[key] = (target, seen)
        return target, known[1]


class _Gone:
    """In place of the value of a deleted attribute."""


def _identical(now, seen):
    if len(now) != len(seen):
        return False
    return all(map(_is, now.values(), seen.values()))


from operator import is_ as _is  # noqa: E402
