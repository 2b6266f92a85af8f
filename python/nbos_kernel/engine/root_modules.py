"""Modules: which ones are imported, and what user code has changed in them.

A library module is the same on every replica, so only changed attributes travel: those that user
code can have set (its own functions, classes and objects, and plain values under public names).
A module of the user's own, found through sys.path, is a second namespace: its variables are state.
"""

import sys
import types

from . import table_format as fmt
from .dict_versions import Watched, dict_of_class
from .root import Root
from .types_of import ATOMS

_ABSENT = object()
_OTHER_ROOTS = {"p:sys": {"last_type", "last_value", "last_exc", "last_traceback"}}  # root_process.py


def _mark():
    """Changes whenever a module is added: new ones come last."""
    return len(sys.modules), next(reversed(sys.modules))


class ImportedModules(Root):
    """"m:PREFIX.COUNT": names of modules that one cell imported. Standbys import them, too."""

    prefix = "m:"
    family = True

    def __init__(self, engine):
        self._engine = engine
        self._known = set()
        self._mark = None
        self._new = []

    def take_baseline(self):
        self._known = set(sys.modules)
        self._mark = _mark()

    def walk(self, walk):
        self._new = []
        if self._mark == _mark():
            return
        self._mark = _mark()
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
        self._mark = _mark()

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
        self._targets = {}  # key -> (module or class, attributes as first seen)
        self._versions = Watched()
        self._patched = set()  # keys with differences when last looked at
        self._own = set()  # keys of modules of the user's own
        self._modules = None  # mark of sys.modules when last looked at
        self._bound = set()  # names of modules whose classes have been noted
        self._sent = {}  # key -> (data, refs): what other replicas have, as far as it can be told
        self._in_table = set()  # keys; others of _sent were so before anybody's cell
        self._found = {}  # key -> what is changed there, in the walk under way
        self._changes = {}
        self._unsupported = []

    def prepare(self):
        for name, module in list(sys.modules.items()):
            self._watch_module(name, module)
        self._modules = _mark()

    def take_baseline(self):
        if self._modules != _mark():
            self.prepare()

    def _watch_module(self, name, module):
        if not isinstance(module, types.ModuleType) or name == "__main__":
            return
        if self._engine.context.module_name(module) != name or name.startswith("nbos_kernel"):
            return
        key = "p:" + name
        if not self._engine.context.is_library(name):
            self._own.add(key)
        self._watch(key, module, vars(module))

    def _watch(self, key, target, attributes):
        known = self._targets.get(key)
        if known is not None and known[0] is target:
            return
        seen = dict(attributes)
        users = [k for k, v in seen.items() if self._is_users(v)]
        for name in users:
            del seen[name]
        if users:
            self._patched.add(key)
        self._targets[key] = (target, seen)
        self._versions.add(key, attributes)

    def _is_users(self, value):
        """Made by user code, so it cannot have come with a library."""
        # By type(): isinstance asks the object for __class__, at which torch's deprecated ones warn.
        t = type(value)
        if t is types.FunctionType:
            return value.__globals__ is self._engine.context.namespace
        cls = value if issubclass(t, type) else t
        return cls.__module__ == "__main__"

    # ---- out -------------------------------------------------------------------------------------

    def walk(self, walk):
        if self._modules != _mark():
            self._modules = _mark()
            for name, module in list(sys.modules.items()):
                self._watch_module(name, module)
        written = self._versions.written()
        self._watch_classes(written)
        looked_at = self._patched.union(written, self._own)
        found = {}
        for key in sorted(looked_at):
            target, seen = self._targets[key]
            if key in self._own:
                changed = self._variables(key[2:], target)
            else:
                changed = self._changed(vars(target), seen, _OTHER_ROOTS.get(key, ()))
            if changed:
                found[key] = changed
        self._patched = set(found)
        self._found = found
        self.read_again(walk)

    def _changed(self, now, seen, left_out):
        changed = {}
        for key, value in list(now.items()):
            before = seen.get(key, _ABSENT)
            if before is not value and key not in left_out and self._travels(key, value, before):
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

    def _watch_classes(self, written):
        """Library classes that the namespace, or a module bound in it, offers."""
        context = self._engine.context
        for value in list(context.namespace.values()):
            if issubclass(type(value), type):
                self._watch_class(value)
            elif type(value) is types.ModuleType:
                name = value.__name__
                if name not in self._bound or "p:" + name in written:
                    self._bound.add(name)
                    for inner in list(vars(value).values()):
                        if isinstance(inner, type):
                            self._watch_class(inner)

    def _watch_class(self, cls):
        module = cls.__module__
        if module in ("__main__", "builtins") or not cls.__flags__ & (1 << 9):
            return
        key = f"p:{module}:{cls.__qualname__}"
        known = self._targets.get(key)
        context = self._engine.context
        if known is None and context.is_library(module) and context._is_importable(cls):
            self._watch(key, cls, dict_of_class(cls))

    def read_again(self, walk):
        self._changes = {}
        self._unsupported = []
        self._compare(self._found, walk)

    def _compare(self, found, walk):
        for key, changed in found.items():
            data, refs = walk.root_section(key[2:].replace(":", "."), changed)
            self._unsupported += walk.take_unsupported()
            before = self._sent.get(key)
            if before is None or before[0] != data:
                self._changes[key] = (data, refs)
            elif before[1] != refs:
                self._sent[key] = (data, refs)
        for key in [key for key in self._sent if key not in found]:
            if key in self._in_table:
                self._changes[key] = None
            else:
                del self._sent[key]

    def resend(self, moved):
        for key, (data, refs) in self._sent.items():
            if refs & moved and key not in self._changes:
                self._changes[key] = (data, refs)

    def emit(self, delta):
        for key, change in self._changes.items():
            if change is None:
                delta.delete(key)
                del self._sent[key]
                self._in_table.discard(key)
            else:
                delta.put(key, fmt.encode_value([change[0]]))
                self._sent[key] = change
                self._in_table.add(key)
        self._changes = {}
        self._found = {}
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
        self._in_table.add(key)
        self._patched.add(key)

    def forget(self, key):
        target, seen = self._target(key)
        self._restore(target, seen, {})
        self._sent.pop(key, None)
        self._in_table.discard(key)

    def reset(self):
        for key in list(self._in_table):
            self.forget(key)

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
        if not class_name:
            self._watch_module(module_name, module)
            return module, None if key in self._own else self._targets[key][1]
        target = module
        for part in class_name.split("."):
            target = getattr(target, part)
        self._watch(key, target, dict_of_class(target))
        return target, self._targets[key][1]


class _Gone:
    """In place of the value of a deleted attribute."""

