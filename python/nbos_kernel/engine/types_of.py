"""How objects of a type travel: inlined, as a node, by name, as a plain value."""

import datetime
import decimal
import fractions
import pickle
import re
import sys
import types
import uuid
from enum import Enum

ATOMS = frozenset(
    {int, float, str, bool, type(None), bytes, complex, type(Ellipsis), type(NotImplemented)}
)

VALUE = "value"  # immutable: inlined wherever it is met, its identity means nothing
INLINE = "inline"  # inlined until it is met from a second node
NODE = "node"  # has an id from the start
STORAGE = "storage"  # a torch storage: known by the address of the C++ object
BY_NAME_CHECK = "by name?"  # may be a module's: then only its name travels

_VALUES = {
    range,
    slice,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    re.Pattern,
    types.GenericAlias,
    types.UnionType,
    types.CodeType,
    pickle.PickleBuffer,  # made for a pickle: what it shows belongs to the object that is pickled
}
_INLINES = {list, dict, set, frozenset, tuple, bytearray}
_CHECKED = {
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    type,
}
# Functions of extension modules have types of their own, by these names in every package.
NATIVE_FUNCTIONS = ("cython_function_or_method", "fused_cython_function", "ufunc")
_NODES = {types.CellType}
_PERMANENT = {
    **dict.fromkeys(_VALUES, VALUE),
    **dict.fromkeys(_INLINES, INLINE),
    **dict.fromkeys(_CHECKED, BY_NAME_CHECK),
    **dict.fromkeys(_NODES, NODE),
}


class TypeCodes:
    """Per walk: types that users make must not be kept alive by a cache."""

    def __init__(self, context, needs_node):
        self._context = context
        self._needs_node = needs_node  # asked for types that have a kind of their own
        self._codes = dict(_PERMANENT)

    def of(self, t):
        code = self._codes.get(t)
        if code is None:
            code = self._codes[t] = self._classify(t)
        return code

    def _classify(self, t):
        if issubclass(t, type):
            return BY_NAME_CHECK
        if self._needs_node(t) or issubclass(t, BaseException):
            return NODE
        if issubclass(t, Enum):
            return VALUE
        if issubclass(t, types.ModuleType):
            return BY_NAME_CHECK
        if t.__name__ in NATIVE_FUNCTIONS:
            return BY_NAME_CHECK
        bases = {(b.__module__, b.__name__) for b in t.__mro__}
        if ("numpy", "ndarray") in bases:
            return NODE
        if ("numpy", "generic") in bases or ("numpy", "dtype") in bases:
            return VALUE
        if ("torch", "Tensor") in bases:
            return NODE
        if ("torch._C", "StorageBase") in bases and t.__name__ == "UntypedStorage":
            return STORAGE
        if t.__module__ == "torch" and t.__name__ in ("dtype", "device", "Size", "layout"):
            return VALUE
        if t.__module__ == "pandas._libs.internals" and t.__name__ == "BlockValuesRefs":
            return NODE
        return BY_NAME_CHECK if self._context.is_library_type(t) else INLINE


def loaded(name):
    """A module that user code has imported already, or None: the engine imports nothing by itself."""
    return sys.modules.get(name)
