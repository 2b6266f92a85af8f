"""How an inlined object is taken apart: the answer for pickle's reducer_override.

Only for objects that are neither nodes nor basic containers. NotImplemented means that pickle's own
way is right and cannot fail.
"""

import asyncio
import concurrent.futures
import copyreg
import io
import itertools
import os
import pickle
import subprocess
import sys
import threading
import types
import warnings
import weakref
from enum import Enum

from . import rebuild
from .unavailable import Unavailable, facts_of


def inline(obj, walk):
    """A reduce tuple or NotImplemented. Raises an exception whose text says why it cannot be carried."""
    t = type(obj)
    special = _BY_TYPE.get(t)
    if special is not None:
        return special(obj, walk)
    if isinstance(obj, type):
        return NotImplemented  # importable: others are nodes
    if isinstance(obj, types.ModuleType):
        return rebuild.module_by_name, (walk.context.module_name(obj),)
    refuse(obj)
    if isinstance(obj, Enum):
        return _enum_member(obj)
    plain, hooked = layout(t)
    if plain:
        if not hooked:
            return NotImplemented
        elif not walk.context.is_library_type(t) and not _needs_hooks(obj):
            return rebuild.plain_new, (t,), state_of(obj), None, None, rebuild.set_state
    return generic(obj, t)


def generic(obj, t):
    """What the object says itself."""
    dispatch = copyreg.dispatch_table.get(t)
    if dispatch is not None:
        result = dispatch(obj)
    elif t.__module__ == "itertools":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated by 3.12, still right until 3.13
            result = obj.__reduce_ex__(5)
    else:
        result = obj.__reduce_ex__(5)
    if isinstance(result, str):
        module = sys.modules.get(getattr(obj, "__module__", None) or t.__module__)
        found = module
        for part in result.split("."):
            found = getattr(found, part, None)
        if found is not obj:
            raise TypeError(f"it is known only by its name {result!r}, which no module has")
    elif not (isinstance(result, tuple) and 2 <= len(result) <= 6):
        raise TypeError("its __reduce__ returned something else than pickle expects")
    return result


_UNCARRIED_TYPES = (
    (threading.Thread, "a thread runs in one process only"),
    (subprocess.Popen, "a child process belongs to one host"),
    (asyncio.AbstractEventLoop, "an event loop belongs to one process"),
    (asyncio.Future, "a pending computation belongs to one event loop"),
    (concurrent.futures.Executor, "its workers belong to one process"),
    (concurrent.futures.Future, "a pending computation belongs to one process"),
)
_UNCARRIED_MODULES = ("multiprocessing.", "zmq.", "tornado.", "ipykernel.", "socket", "ssl", "selectors")


def refuse(obj):
    """Raises TypeError for objects whose parts could be copied, but that would be dead copies."""
    for cls, reason in _UNCARRIED_TYPES:
        if isinstance(obj, cls):
            raise TypeError(reason)
    module = type(obj).__module__
    if module.startswith(_UNCARRIED_MODULES) and not isinstance(obj, (BaseException, tuple)):
        raise TypeError(f"objects of {module} belong to one process")


# ---- layout of classes ---------------------------------------------------------------------------

_library_layouts = {}


def layout(t):
    """(plain, hooked): all state is in __dict__ and slots; the class says how to take it apart."""
    found = _library_layouts.get(t)
    if found is None:
        found = (_is_plain(t), _is_hooked(t))
        if t.__module__ != "__main__":  # the user's classes change, and must be free to go
            _library_layouts[t] = found
    return found


def _is_plain(t):
    if t.__itemsize__ or not t.__flags__ & (1 << 9):
        return False
    slots = len(rebuild.slot_names(t))
    size = object.__basicsize__ + 8 * slots
    size += 8 * (t.__dictoffset__ > 0) + 8 * (t.__weakrefoffset__ > 0)
    return t.__basicsize__ == size


_HOOKS = ("__reduce_ex__", "__reduce__", "__getstate__")


def _is_hooked(t):
    for name in _HOOKS:
        if getattr(t, name, None) is not getattr(object, name, None):
            return True
    for name in ("__setstate__", "__getnewargs__", "__getnewargs_ex__"):
        if hasattr(t, name):
            return True
    return t in copyreg.dispatch_table


def _needs_hooks(obj):
    """The class drops something on purpose that could not travel (a lock, a file, a thread)."""
    try:
        values = list(vars(obj).values())
    except TypeError:
        return False
    for value in values:
        t = type(value)
        if t in _UNCARRIED_BY_TYPE or t in _LOCKS or isinstance(value, (io.IOBase, threading.Thread)):
            return True
    return False


def state_of(obj):
    """All attributes and slots of an object of plain layout."""
    attributes = rebuild._dict_of(obj)
    names = rebuild.slot_names(type(obj))
    slots = None
    if names:
        slots = {}
        for name in names:
            try:
                slots[name] = object.__getattribute__(obj, name)
            except AttributeError:
                pass
    return (dict(attributes) if attributes else None), slots


# ---- reducers by exact type ----------------------------------------------------------------------


def _enum_member(obj):
    name = obj._name_
    if name is not None and type(obj).__members__.get(name) is obj:
        return rebuild.enum_member, (type(obj), name)
    return type(obj), (obj._value_,)


def _code(obj, walk):
    """As bytes: constants and names of code have no identity that anybody relies on."""
    found = _code_bytes.get(id(obj))
    if found is None or found[0] is not obj:
        if len(_code_bytes) > CODE_CACHE_MAX:
            _code_bytes.clear()
        buffer = io.BytesIO()
        _CodePickler(buffer, 5).dump(obj)
        found = _code_bytes[id(obj)] = (obj, buffer.getvalue())
    return rebuild.code_of, (found[1],)


CODE_CACHE_MAX = 10_000
_code_bytes = {}  # id -> (code, bytes); code cannot change, and holds nothing of the user's


class _CodePickler(pickle.Pickler):
    def reducer_override(self, obj):
        if type(obj) is not types.CodeType:
            return NotImplemented
        return rebuild.code, tuple(getattr(obj, "co_" + name) for name in rebuild.CODE_FIELDS)


def _method(obj, walk):
    return rebuild.method, (obj.__func__, obj.__self__)


def _builtin(obj, walk):
    owner = obj.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        return NotImplemented
    return rebuild.attribute, (owner, obj.__name__)


def _reference(obj, walk):
    target = obj()
    if target is None:
        return rebuild.dead_reference, ()
    if obj.__callback__ is not None:
        walk.note(obj, "its callback is not carried")
    walk.node_of(target)
    return rebuild.reference, (target,)


def _proxy(obj, walk):
    import gc

    targets = gc.get_referents(obj)
    return types.MappingProxyType, (targets[0],)


def _property(obj, walk):
    return property, (obj.fget, obj.fset, obj.fdel, obj.__doc__)


def _class_method(obj, walk):
    return type(obj), (obj.__func__,)


def _memory_view(obj, walk):
    try:
        owner = obj.obj
    except ValueError:
        raise TypeError("it has been released") from None
    if owner is None or not obj.contiguous:
        raise TypeError("a strided memory view cannot be carried")
    whole = memoryview(owner)
    offset = _address(obj) - _address(whole) if obj.nbytes else 0
    shape = list(obj.shape)
    return rebuild.memory_view, (owner, offset, obj.nbytes, obj.format, shape)


def _address(view):
    """Of the first byte, also of a read-only view."""
    import ctypes

    buffer = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0x118)
    address = buffer.buf
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return address or 0


def _define_buffer():
    import ctypes

    class Buffer(ctypes.Structure):
        _fields_ = [
            ("buf", ctypes.c_void_p),
            ("obj", ctypes.c_void_p),
            ("len", ctypes.c_ssize_t),
            ("itemsize", ctypes.c_ssize_t),
            ("readonly", ctypes.c_int),
            ("ndim", ctypes.c_int),
            ("format", ctypes.c_void_p),
            ("shape", ctypes.c_void_p),
            ("strides", ctypes.c_void_p),
            ("suboffsets", ctypes.c_void_p),
            ("internal", ctypes.c_void_p),
        ]

    return Buffer


_PyBuffer = _define_buffer()


def _text_file(obj, walk):
    return _file(obj, {"encoding": obj.encoding, "errors": obj.errors})


def _binary_file(obj, walk):
    return _file(obj, {})


def _file(obj, options):
    if obj.closed:
        mode = getattr(obj, "mode", "r" if options else "rb")
        name = getattr(obj, "name", None)
        return rebuild.closed_file, (os.fspath(name) if isinstance(name, os.PathLike) else name, mode, options)
    if obj.writable():
        raise TypeError("it is open for writing, and its file belongs to one host")
    name = obj.name
    if not isinstance(name, (str, bytes, os.PathLike)):
        raise TypeError("it is not a file with a path")
    size = os.fstat(obj.fileno()).st_size
    mode = "r" if options else "rb"
    return rebuild.open_file, (os.path.abspath(name), mode, options, obj.tell(), size)


def _stand_in(obj, walk):
    return Unavailable, facts_of(obj)


def _uncarried(reason):
    def reducer(obj, walk):
        raise TypeError(reason)

    return reducer


def _native(obj, walk):
    return NotImplemented


_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_UNCARRIED_BY_TYPE = {
    types.GeneratorType: "a generator holds a running frame; run its cell again",
    types.CoroutineType: "a coroutine holds a running frame",
    types.AsyncGeneratorType: "an asynchronous generator holds a running frame",
    types.FrameType: "a frame belongs to a running computation",
    types.TracebackType: "a traceback holds frames",
}
_BY_TYPE = {
    types.CodeType: _code,
    types.MethodType: _method,
    types.BuiltinFunctionType: _builtin,
    types.FunctionType: _native,
    weakref.ref: _reference,
    types.MappingProxyType: _proxy,
    property: _property,
    classmethod: _class_method,
    staticmethod: _class_method,
    memoryview: _memory_view,
    io.TextIOWrapper: _text_file,
    io.BufferedReader: _binary_file,
    io.BufferedRandom: _binary_file,
    io.BufferedWriter: _binary_file,
    Unavailable: _stand_in,
    itertools.tee: _uncarried("tee shares hidden state"),
    **{t: _uncarried(reason) for t, reason in _UNCARRIED_BY_TYPE.items()},
}


def register(t, reducer):
    """Adapters for libraries (kinds_pandas.py) add themselves here when the library is loaded."""
    _BY_TYPE[t] = reducer


def itself(obj, walk):
    """(function, args, state, items, pairs, setter) of an object that is a node of its own."""
    result = inline(obj, walk)
    if result is NotImplemented:
        result = generic(obj, type(obj))
    if isinstance(result, str):
        raise TypeError(f"it is known only by the name {result}")
    return tuple(result) + (None,) * (6 - len(result))
