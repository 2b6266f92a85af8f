"""Has a dict been written to? For dicts of modules and classes, of which there are thousands.

CPython 3.11 and 3.12 give every dict a version that each write changes. It is read through its
address; whether this interpreter has it is tried out once. Where it is missing, nothing is known
and the caller compares, which is slower and right all the same.
"""

import ctypes
import gc

_OFFSET = 24  # after the reference count, the type and the number of entries


def _cell(d):
    return ctypes.c_uint64.from_address(id(d) + _OFFSET)


def _works():
    try:
        d = {"a": 1}
        seen = []
        for step in (lambda: d.update(b=1), lambda: d.update(a=object()), lambda: d.pop("a")):
            seen.append(_cell(d).value)
            step()
        seen.append(_cell(d).value)
        return len(set(seen)) == len(seen) and _cell(d).value == seen[-1]
    except Exception:
        return False


AVAILABLE = _works()


class Watched:
    """Dicts by key, with their versions when last asked. Whoever adds a dict keeps it alive."""

    def __init__(self):
        self._keys = []
        self._cells = []
        self._last = []
        self._index = set()

    def __contains__(self, key):
        return key in self._index

    def add(self, key, d):
        if key in self._index:
            return
        self._index.add(key)
        self._keys.append(key)
        self._cells.append(_cell(d))
        self._last.append(self._cells[-1].value if AVAILABLE else 0)

    def written(self):
        """Keys of the dicts that may have been written to since the last call."""
        if not AVAILABLE:
            return list(self._keys)
        now = [cell.value for cell in self._cells]
        if now == self._last:
            return ()
        changed = [k for k, a, b in zip(self._keys, now, self._last) if a != b]
        self._last = now
        return changed


def dict_of_class(cls):
    """The dict behind the read-only view that a class shows."""
    return gc.get_referents(type.__dict__["__dict__"].__get__(cls))[0]
