"""Functions that pickles of the engine call when they are loaded. Their names are part of the format."""

import importlib
import io
import os
import pickle
import types
import weakref

from .unavailable import Unavailable

def set_state(obj, state):
    """`state` is (attributes or None, slots or None): exactly these, nothing else stays."""
    attributes, slots = state
    own = _dict_of(obj)
    if own is not None:
        own.clear()
        if attributes:
            own.update(attributes)
    if slots is not None:
        for name in slot_names(type(obj)):
            if name not in slots:
                try:
                    object.__delattr__(obj, name)
                except AttributeError:
                    pass
        for name, value in slots.items():
            object.__setattr__(obj, name, value)


def _dict_of(obj):
    try:
        return object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return None


def slot_names(cls):
    names = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name in ("__dict__", "__weakref__"):
                continue
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{base.__name__.lstrip('_')}{name}"
            names.append(name)
    return names


def new(cls, *args, **kwargs):
    return cls.__new__(cls, *args, **kwargs)


def plain_new(cls):
    return object.__new__(cls)


def module_by_name(name):
    try:
        return importlib.import_module(name)
    except Exception as error:
        return Unavailable(name, "module", f"cannot be imported here: {error}")


CODE_FIELDS = (
    *("argcount", "posonlyargcount", "kwonlyargcount", "nlocals", "stacksize", "flags", "code"),
    *("consts", "names", "varnames", "filename", "name", "qualname", "firstlineno"),
    *("linetable", "exceptiontable", "freevars", "cellvars"),
)


def code(*fields):
    return types.CodeType(*fields)


def code_of(data):
    return pickle.loads(data)


def method(function, owner):
    return types.MethodType(function, owner)


def dead_reference():
    return weakref.ref(type("Dead", (), {})())


def reference(target, cls=weakref.ref):
    return cls(target)


def memory_view(owner, offset, size, view_format, shape):
    view = memoryview(owner).cast("B")[offset : offset + size]
    return view.cast(view_format, shape) if (view_format, shape) != ("B", [size]) else view


def attribute(owner, name):
    return getattr(owner, name)


def enum_member(cls, name):
    return cls.__members__[name]


def closed_file(name, mode, options):
    """Only what it was is left of it: nothing that belongs to a host."""
    file = open(os.devnull, mode.replace("x", "w"), **options)
    raw = file
    while not isinstance(raw, io.FileIO):
        raw = raw.buffer if isinstance(raw, io.TextIOWrapper) else raw.raw
    if isinstance(file, io.TextIOWrapper):
        file.mode = mode
    raw.name = name
    file.close()
    return file


def open_file(path, mode, options, position, size):
    file = open(path, mode, **options)
    actual = os.fstat(file.fileno()).st_size
    if actual != size:
        file.close()
        raise OSError(f"{path} has {actual} bytes here and {size} where it was opened")
    file.seek(position)
    return file


def pandas_block(cls, values, placement, ndim, refs):
    from pandas._libs.internals import BlockPlacement

    block = cls(values, placement=BlockPlacement(placement), ndim=ndim, refs=refs)
    return block


def pandas_single_manager(cls, block, axis):
    return cls(block, axis)
