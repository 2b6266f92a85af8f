"""What the roots of process state have in common."""

from . import table_format as fmt


class Root:
    """Owns the key `prefix`, or with `family` every key that begins with it."""

    prefix = None
    family = False
    label = "process"

    def prepare(self):
        pass

    def take_baseline(self):
        pass

    def before_cell(self):
        pass

    def walk(self, walk):
        pass

    def read_again(self, walk):
        """An object that was inlined in a root has an id by now."""

    def resend(self, moved):
        pass

    def emit(self, delta):
        return []

    def rebase(self, new):
        pass

    def apply(self, key, value):
        pass

    def forget(self, key):
        pass

    def reset(self):
        pass


class ValueRoot(Root):
    """State that is one comparable value: `read` gives it, `set` repeats it."""

    _NOTHING = object()

    deferred = False  # repeated just before the next cell, because it lives in the cell's context

    def __init__(self):
        self._waiting = []
        self._last = self._NOTHING
        self._change = None

    def read(self):
        raise NotImplementedError

    def set(self, value):
        raise NotImplementedError

    def pack(self, value):
        """What travels, when it is not the value itself."""
        return value

    def take_baseline(self):
        self._last = self.read()

    def walk(self, walk):
        self._change = None
        now = self.read()
        if now == self._last:
            return
        data, _ = walk.root_section(f"({self.label})", self.pack(now))
        self._change = (now, data)
        self._unsupported = walk.take_unsupported()

    def emit(self, delta):
        if self._change is None:
            return []
        self._last, data = self._change
        self._change = None
        delta.put(self.prefix, fmt.encode_value([data]))
        return self._unsupported

    def rebase(self, new):
        self._change = None
        self._last = self.read()

    def apply(self, key, value):
        if self.deferred:
            self._waiting = [value]
        else:
            self.set(value)

    def before_cell(self):
        while self._waiting:
            self.set(self._waiting.pop())


class ObjectRoot(Root):
    """State that refers to objects: `read` gives a dict, empty when all is as in a fresh interpreter."""

    def __init__(self):
        self._change = None
        self._data = None  # what the table has
        self._refs = frozenset()
        self._unsupported = []

    def read(self):
        raise NotImplementedError

    def walk(self, walk):
        self._change = None
        now = self.read()
        if not now and self._data is None:
            return
        data, self._refs = walk.root_section(self.label, now)
        self._unsupported = walk.take_unsupported()
        if data != self._data:
            self._change = data

    read_again = walk

    def resend(self, moved):
        if self._data is not None and self._change is None and self._refs & moved:
            self._change = self._data

    def emit(self, delta):
        if self._change is None:
            return []
        self._data, self._change = self._change, None
        delta.put(self.prefix, fmt.encode_value([self._data]))
        return self._unsupported

    def rebase(self, new):
        if self._change is not None:
            self._data = b"" if self._refs & new else self._change
        self._change = None
