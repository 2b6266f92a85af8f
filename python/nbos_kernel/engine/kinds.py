"""What a node is made of, by kind: how it is taken apart, made again, and filled in place.

`split(obj, walk)` gives (create, state), each to be pickled or None. `make(create)` makes a shell;
`fill(obj, state, fresh)` sets the state of a shell or of a live object. A create that changes means
another object: it is made again, and whoever refers to it is sent again.

The names of kinds are part of the format (docs/reference/state-format.md).
"""

import collections
import functools
import os
import sqlite3
import threading
import types
import weakref
from contextvars import ContextVar

from . import rebuild, reduce
from .types_of import ATOMS
from .unavailable import Unavailable, facts_of


class Kind:
    name = None
    name_bytes = b""
    plain_test = None
    order = 1  # fills run in this order; keys that need state to hash come last
    may_fail = False  # a library's own code rebuilds it
    always_fill = False  # also when there is no state: what a live object has must go
    code = False  # other objects cannot be made before it is filled (their class has to work)

    def __init_subclass__(cls):
        cls.name_bytes = cls.name.encode()

    def split(self, obj, walk):
        raise NotImplementedError

    def make(self, create):
        raise NotImplementedError

    def fill(self, obj, state, fresh):
        pass


def _all_atoms(values):
    return ATOMS.issuperset(map(type, values))


class ListKind(Kind):
    name = "list"
    plain_test = staticmethod(_all_atoms)

    def split(self, obj, walk):
        return None, list(obj)

    def make(self, create):
        return []

    def fill(self, obj, state, fresh):
        obj[:] = state


class DictKind(Kind):
    name = "dict"
    order = 3

    @staticmethod
    def plain_test(state):
        return _all_atoms(state) and _all_atoms(state.values())

    def split(self, obj, walk):
        return None, dict(obj)

    def make(self, create):
        return {}

    def fill(self, obj, state, fresh):
        obj.clear()
        obj.update(state)


class SetKind(Kind):
    name = "set"
    order = 3
    plain_test = staticmethod(_all_atoms)

    def split(self, obj, walk):
        return None, list(obj)

    def make(self, create):
        return set()

    def fill(self, obj, state, fresh):
        obj.clear()
        obj.update(state)


class BytearrayKind(Kind):
    """Its size belongs to its making: arrays and views that look into it need it at once."""

    name = "bytearray"

    def split(self, obj, walk):
        return len(obj), bytes(obj)

    def make(self, create):
        return bytearray(create)

    def fill(self, obj, state, fresh):
        obj[:] = state


class TupleKind(Kind):
    """Immutable: another content is another tuple."""

    name = "tuple"

    def split(self, obj, walk):
        return list(obj), None

    def make(self, create):
        return tuple(create)


class FrozensetKind(Kind):
    name = "frozenset"

    def split(self, obj, walk):
        return list(obj), None

    def make(self, create):
        return frozenset(create)


class CellKind(Kind):
    name = "cell"
    code = True

    def split(self, obj, walk):
        try:
            return None, (obj.cell_contents,)
        except ValueError:
            return None, ()

    def make(self, create):
        return types.CellType()

    def fill(self, obj, state, fresh):
        if state:
            obj.cell_contents = state[0]
        elif not fresh:
            try:
                del obj.cell_contents
            except ValueError:
                pass


class ObjectKind(Kind):
    """An instance whose whole state is its __dict__ and its slots."""

    name = "object"
    always_fill = True

    def split(self, obj, walk):
        attributes, slots = state = reduce.state_of(obj)
        if slots is None:
            return type(obj), attributes
        walk.exempt(attributes, slots)
        return type(obj), state

    def make(self, create):
        return object.__new__(create)

    def fill(self, obj, state, fresh):
        rebuild.set_state(obj, state if type(state) is tuple else (state, None))


class CounterKind(Kind):
    """A dict subclass that pickles its content as an argument: filled in place all the same."""

    name = "counter"
    order = 3

    def split(self, obj, walk):
        items, attributes = list(dict.items(obj)), dict(vars(obj))
        walk.exempt(items, attributes)
        return type(obj), (items, attributes)

    def make(self, create):
        return create.__new__(create)

    def fill(self, obj, state, fresh):
        items, attributes = state
        dict.clear(obj)
        dict.update(obj, items)
        vars(obj).clear()
        vars(obj).update(attributes)


class SetSubclassKind(Kind):
    name = "set subclass"
    order = 3

    def split(self, obj, walk):
        return type(obj), (list(set.__iter__(obj)), reduce.state_of(obj))

    def make(self, create):
        return create.__new__(create)

    def fill(self, obj, state, fresh):
        elements, attributes = state
        set.clear(obj)
        set.update(obj, elements)
        rebuild.set_state(obj, attributes)


class ReduceKind(Kind):
    """Whatever the object says of itself to pickle."""

    name = "reduce"
    order = 2
    may_fail = True

    def split(self, obj, walk):
        function, args, state, items, pairs, setter = reduce.itself(obj, walk)
        items = list(items) if items is not None else None
        pairs = list(pairs) if pairs is not None else None
        walk.exempt(state, items, pairs)
        walk.exempt_parts(args)
        if state is None and items is None and pairs is None:
            return (function, args), None
        return (function, args), (state, items, pairs, setter)

    def make(self, create):
        function, args = create
        return function(*args)

    def fill(self, obj, full_state, fresh):
        state, items, pairs, setter = full_state
        if not fresh:
            _empty(obj, items, pairs)
        if items is not None:
            extend = getattr(obj, "extend", None)
            if extend is not None:
                extend(items)
            else:
                for item in items:
                    obj.append(item)
        if pairs is not None:
            for key, value in pairs:
                obj[key] = value
        _set_reduced_state(obj, state, setter)


def _empty(obj, items, pairs):
    if items is not None:
        list.clear(obj) if isinstance(obj, list) else obj.clear()
    if pairs is not None:
        if isinstance(obj, collections.OrderedDict):
            collections.OrderedDict.clear(obj)
        else:
            dict.clear(obj) if isinstance(obj, dict) else obj.clear()
    attributes = rebuild._dict_of(obj)
    if attributes and reduce.layout(type(obj))[0]:
        attributes.clear()  # what an extension type keeps beside its own state is left to it


def _set_reduced_state(obj, state, setter):
    if setter is not None:
        setter(obj, state)
    elif state is None:
        return
    elif hasattr(obj, "__setstate__"):
        obj.__setstate__(state)
    else:
        slots = None
        if isinstance(state, tuple) and len(state) == 2:
            state, slots = state
        if state:
            vars(obj).update(state)
        for name, value in (slots or {}).items():
            setattr(obj, name, value)


class LockKind(Kind):
    """A lock in the same state. Whoever held it elsewhere is not here to release it."""

    name = "lock"

    def split(self, obj, walk):
        if obj.locked():
            walk.note(obj, "it is held; the copies are held too")
        return (), obj.locked()

    def make(self, create):
        return threading.Lock()

    def fill(self, obj, state, fresh):
        if state:
            obj.acquire(blocking=False)
        elif obj.locked():
            obj.release()


class RLockKind(Kind):
    name = "rlock"

    def split(self, obj, walk):
        if not obj.acquire(blocking=False):
            walk.note(obj, "another thread holds it; the copies are free")
        else:
            obj.release()
            if obj._is_owned():
                walk.note(obj, "it is held; the copies are free")
        return (), None

    def make(self, create):
        return threading.RLock()


class ContextVarKind(Kind):
    name = "contextvar"

    def split(self, obj, walk):
        value = obj.get(_MISSING)
        default = _context_default(obj)
        return (obj.name, default), () if value is _MISSING else (value,)

    def make(self, create):
        name, default = create
        return ContextVar(name, default=default[0]) if default else ContextVar(name)

    def fill(self, obj, state, fresh):
        if state:
            obj.set(state[0])
            pending_context[id(obj)] = (obj, state[0])


_MISSING = object()
pending_context = {}  # values that the next cell's context must get (engine core)


def _context_default(var):
    import contextvars

    context = contextvars.Context()
    try:
        return (context.run(var.get),)
    except LookupError:
        return ()


class LruCacheKind(Kind):
    """The function with an empty cache: the same answers, computed once more on another replica."""

    name = "lru_cache"

    def split(self, obj, walk):
        parameters = obj.cache_parameters()
        return (obj.__wrapped__, parameters["maxsize"], parameters["typed"]), dict(vars(obj))

    def make(self, create):
        function, maxsize, typed = create
        return functools.lru_cache(maxsize, typed)(function)

    def fill(self, obj, state, fresh):
        vars(obj).clear()
        vars(obj).update(state)
        obj.cache_clear()


class SqliteKind(Kind):
    """An in-memory database, whole. A file's connection is not carried: the file is the host's."""

    name = "sqlite"

    def split(self, obj, walk):
        for _, database, path in obj.execute("PRAGMA database_list"):
            if os.path.isabs(path or ""):  # a deserialized database has a made-up relative name
                raise TypeError(f"the database {path} belongs to one host")
        return (obj.isolation_level,), (obj.serialize(), obj.row_factory, obj.text_factory)

    def make(self, create):
        return sqlite3.connect(":memory:", isolation_level=create[0])

    def fill(self, obj, state, fresh):
        data, obj.row_factory, obj.text_factory = state
        if data:
            obj.deserialize(data)


class WeakMappingKind(Kind):
    """WeakValueDictionary and WeakKeyDictionary: entries, not the machinery of callbacks."""

    name = "weak mapping"
    order = 3

    def split(self, obj, walk):
        items = list(obj.items())
        for key, value in items:
            walk.node_of(value if isinstance(obj, weakref.WeakValueDictionary) else key)
        return type(obj), items

    def make(self, create):
        return create()

    def fill(self, obj, state, fresh):
        obj.clear()
        for key, value in state:
            obj[key] = value


class WeakSetKind(Kind):
    name = "weak set"
    order = 3

    def split(self, obj, walk):
        elements = list(obj)
        for element in elements:
            walk.node_of(element)
        return type(obj), elements

    def make(self, create):
        return create()

    def fill(self, obj, state, fresh):
        obj.clear()
        obj.update(state)


class UnavailableKind(Kind):
    name = "unavailable"

    def split(self, obj, walk, reason=None):
        if reason is None:
            return facts_of(obj), None  # it was not carried to here, and stays so
        return walk.unavailable(obj, reason)[1], None

    def make(self, create):
        return Unavailable(*create)


class ExceptionKind(Kind):
    name = "exception"
    may_fail = True

    def split(self, obj, walk):
        state = (
            dict(vars(obj)),
            obj.args,
            obj.__cause__,
            obj.__context__,
            obj.__suppress_context__,
        )
        function, args = obj.__reduce_ex__(5)[:2]
        return (function, args) if function is not type(obj) else (rebuild.new, (function, *args)), state

    def make(self, create):
        function, args = create
        return function(*args)

    def fill(self, obj, state, fresh):
        attributes, obj.args, obj.__cause__, obj.__context__, obj.__suppress_context__ = state
        vars(obj).clear()
        vars(obj).update(attributes)


UNAVAILABLE = UnavailableKind()
_REDUCE = ReduceKind()
_OBJECT = ObjectKind()
_COUNTER = CounterKind()
_SET_SUBCLASS = SetSubclassKind()
_EXCEPTION = ExceptionKind()
_BY_TYPE = {
    list: ListKind(),
    dict: DictKind(),
    set: SetKind(),
    bytearray: BytearrayKind(),
    tuple: TupleKind(),
    frozenset: FrozensetKind(),
    types.CellType: CellKind(),
    type(threading.Lock()): LockKind(),
    type(threading.RLock()): RLockKind(),
    ContextVar: ContextVarKind(),
    functools._lru_cache_wrapper: LruCacheKind(),
    sqlite3.Connection: SqliteKind(),
    weakref.WeakValueDictionary: WeakMappingKind(),
    weakref.WeakKeyDictionary: WeakMappingKind(),
    weakref.WeakSet: WeakSetKind(),
    Unavailable: UNAVAILABLE,
}
_BY_NAME = {
    kind.name: kind
    for kind in (*_BY_TYPE.values(), UNAVAILABLE, _REDUCE, _OBJECT, _COUNTER, _SET_SUBCLASS, _EXCEPTION)
}
ALWAYS_NODES = {types.FunctionType, types.ModuleType}
_finders = []  # functions (type, object) -> kind or None, asked in order


def register(kind, *types_, finder=None):
    _BY_NAME[kind.name] = kind
    for t in types_:
        _BY_TYPE[t] = kind
    if finder is not None:
        _finders.append(finder)


def by_name(name):
    return _BY_NAME[name]


def needs_node(t):
    """Types that pickle cannot inline, because their kind does what no reduce tuple can."""
    return t in _BY_TYPE and t not in (list, dict, set, tuple, frozenset, bytearray)


def kind_of(obj, walk):
    t = type(obj)
    kind = _BY_TYPE.get(t)
    if kind is not None:
        return kind
    for finder in _finders:
        kind = finder(t, obj)
        if kind is not None:
            return kind
    reduce.refuse(obj)
    if isinstance(obj, collections.Counter) and t.__reduce__ is collections.Counter.__reduce__:
        return _COUNTER
    if isinstance(obj, set) and not _is_own(t, "__reduce__", set):
        return _SET_SUBCLASS
    if isinstance(obj, BaseException):
        return _EXCEPTION
    plain, hooked = reduce.layout(t)
    if plain and t not in reduce._BY_TYPE:
        if not hooked:
            return _OBJECT
        if not walk.context.is_library_type(t) and not reduce._needs_hooks(obj):
            return _OBJECT
    return _REDUCE


def _is_own(t, name, base):
    return getattr(t, name) is not getattr(base, name)
