"""Placeholder engine: one pickle a name. Replaced by the object-granular engine."""

import marshal
import pickle
import types

from . import table_format as fmt


def _function(code, name, defaults):
    from IPython import get_ipython
    return types.FunctionType(marshal.loads(code), get_ipython().user_ns, name, defaults)


def _module(name):
    import importlib
    return importlib.import_module(name)


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj):
        if isinstance(obj, types.ModuleType):
            return _module, (obj.__name__,)
        if isinstance(obj, types.FunctionType) and obj.__module__ == "__main__":
            return _function, (marshal.dumps(obj.__code__), obj.__name__, obj.__defaults__)
        return NotImplemented


def _dump(value):
    import io
    out = io.BytesIO()
    _Pickler(out, 5).dump(value)
    return out.getvalue()


class Engine:
    name = "simple"

    def __init__(self, shell):
        self.shell = shell
        self.base = set(shell.user_ns)
        self.sent = {}

    def adopt(self, replica):
        self.base |= set(self.shell.user_ns)

    def before_cell(self):
        pass

    def capture(self):
        delta, unsupported = fmt.DeltaWriter(), []
        ns = self.shell.user_ns
        now = {}
        for name in list(ns):
            if name in self.base or name.startswith("_"):
                continue
            try:
                now["n:" + name] = _dump(ns[name])
            except Exception as e:
                unsupported.append({"path": name, "type": type(ns[name]).__name__, "reason": str(e)})
        now["x:count"] = _dump(self.shell.execution_count)
        manager = self.shell.history_manager
        now["x:in"] = _dump((list(manager.input_hist_parsed), list(manager.input_hist_raw)))
        for key, value in now.items():
            if self.sent.get(key) != value:
                delta.put(key, fmt.encode_value([value]))
        for key in self.sent:
            if key not in now:
                delta.delete(key)
        self.sent = now
        return delta.take(), unsupported

    def load(self, delta):
        for key in self.sent:
            if key.startswith("n:"):
                self.shell.user_ns.pop(key[2:], None)
        self.sent = {}
        self.apply(delta)

    def apply(self, delta):
        for key, value in fmt.read_delta(delta):
            if value is None:
                self.shell.user_ns.pop(key[2:], None)
                self.sent.pop(key)
                continue
            data = bytes(fmt.decode_value(value)[0])
            self.sent[key] = data
            obj = pickle.loads(data)
            if key == "x:count":
                self.shell.execution_count = obj
            elif key == "x:in":
                manager = self.shell.history_manager
                manager.input_hist_parsed[:], manager.input_hist_raw[:] = obj
            else:
                self.shell.user_ns[key[2:]] = obj
