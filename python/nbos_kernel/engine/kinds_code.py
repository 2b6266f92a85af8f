"""Functions, classes and modules that no replica can import."""

import _abc
import sys
import types
from enum import EnumMeta

from . import kinds, rebuild
from .unavailable import Unavailable


class FunctionKind(kinds.Kind):
    """Its globals are the live namespace (or module dict), so that it sees later changes."""

    name = "function"
    code = True

    def split(self, obj, walk):
        state = (
            obj.__code__,
            obj.__defaults__,
            obj.__kwdefaults__,
            obj.__name__,
            obj.__qualname__,
            obj.__module__,
            obj.__doc__,
            dict(obj.__annotations__),
            dict(obj.__dict__),
            getattr(obj, "__type_params__", ()),
        )
        return (obj.__closure__, _globals_of(obj, walk)), state

    def make(self, create):
        closure, namespace = create
        code = _EMPTY.__code__
        if closure:
            code = code.replace(co_freevars=tuple(f"v{i}" for i in range(len(closure))))
        return types.FunctionType(code, namespace, "f", None, closure)

    def fill(self, obj, state, fresh):
        (
            obj.__code__,
            obj.__defaults__,
            obj.__kwdefaults__,
            obj.__name__,
            obj.__qualname__,
            obj.__module__,
            obj.__doc__,
            obj.__annotations__,
            attributes,
            parameters,
        ) = state
        obj.__dict__.clear()
        obj.__dict__.update(attributes)
        if parameters:
            obj.__type_params__ = parameters


def _EMPTY():
    pass


class ModuleGlobals:
    """Stands for the __dict__ of a module in a pickle."""

    def __init__(self, module):
        self.module = module

    def __reduce__(self):
        return module_globals, (self.module,)


def module_globals(module):
    if isinstance(module, Unavailable):
        return {"__builtins__": __builtins__}
    return vars(module)


def _globals_of(function, walk):
    namespace = function.__globals__
    if namespace is walk.context.namespace:
        return namespace  # a special object
    module = sys.modules.get(namespace.get("__name__"))
    if module is not None and vars(module) is namespace:
        return ModuleGlobals(module)
    for value in walk.context.namespace.values():  # made by hand, and not in sys.modules
        if isinstance(value, types.ModuleType) and vars(value) is namespace:
            return ModuleGlobals(value)
    walk.node_of(namespace)
    return namespace


class ModuleKind(kinds.Kind):
    """A module made by hand: by value, and in sys.modules when it was."""

    name = "module"
    code = True

    def split(self, obj, walk):
        registered = sys.modules.get(obj.__name__) is obj
        attributes = dict(vars(obj))
        attributes.pop("__builtins__", None)
        return (obj.__name__,), (registered, attributes)

    def make(self, create):
        return types.ModuleType(create[0])

    def fill(self, obj, state, fresh):
        registered, attributes = state
        vars(obj).clear()
        vars(obj).update(attributes)
        if registered:
            sys.modules[obj.__name__] = obj
        elif sys.modules.get(obj.__name__) is obj:
            del sys.modules[obj.__name__]


_SKIPPED = {"__dict__", "__weakref__", "_abc_impl", "__slots__", "__name__", "__qualname__"}
_ENUM_OWN = {
    "_member_names_",
    "_member_map_",
    "_value2member_map_",
    "_unhashable_values_",
    "_hashable_values_",
    "_unhashable_values_map_",
    "_member_type_",
    "_value_repr_",
    "_use_args_",
    "_new_member_",
    "_flag_mask_",
    "_singles_mask_",
    "_all_bits_",
    "_boundary_",
    "_inverted_",
    "__new_member__",
    "__new__",
}


class ClassKind(kinds.Kind):
    """A class as a skeleton (metaclass, bases, slots) and its attributes, set one by one.

    Metaclasses and __init_subclass__ of the user do not run again: their effects are state, too.
    """

    name = "class"
    code = True

    def split(self, obj, walk):
        if not obj.__flags__ & (1 << 9):
            raise TypeError("a type of the interpreter that no module offers")
        own = type.__dict__["__dict__"].__get__(obj)
        slots = own.get("__slots__")
        if slots is not None:
            slots = (slots,) if isinstance(slots, str) else tuple(slots)
        members = None
        skipped = set(_SKIPPED)
        if isinstance(obj, EnumMeta):
            members = [(name, member._value_) for name, member in obj.__members__.items()]
            skipped |= _ENUM_OWN
            skipped.update(obj.__members__)
        if slots:
            skipped.update(rebuild.slot_names(obj))
        attributes = {k: v for k, v in own.items() if k not in skipped}
        create = (type(obj), obj.__bases__, slots, members, obj.__name__ if members else None)
        state = (obj.__name__, obj.__qualname__, attributes, _registered(obj))
        return create, state

    def make(self, create):
        meta, bases, slots, members, name = create
        if members is not None:
            return _make_enum(meta, bases, members, name)
        namespace = {"__module__": "__main__"}
        if slots is not None:
            namespace["__slots__"] = slots
        maker = next(m for m in meta.__mro__ if m.__module__ != "__main__")
        quiet = _silence_hooks(bases)
        try:
            return maker.__new__(meta, "Skeleton", bases, namespace)
        finally:
            for base, hook in quiet:
                type.__setattr__(base, "__init_subclass__", hook)

    def fill(self, obj, state, fresh):
        name, qualname, attributes, registered = state
        type.__setattr__(obj, "__name__", name)
        type.__setattr__(obj, "__qualname__", qualname)
        own = type.__dict__["__dict__"].__get__(obj)
        skipped = set(_SKIPPED)
        if isinstance(obj, EnumMeta):
            skipped |= _ENUM_OWN
            skipped.update(obj.__members__)
        skipped.update(rebuild.slot_names(obj))
        for key in list(own):
            if key not in attributes and key not in skipped:
                type.__delattr__(obj, key)
        for key, value in attributes.items():
            if key not in own or own[key] is not value:
                type.__setattr__(obj, key, value)
        for cls in registered:
            type(obj).register(obj, cls)


def _registered(cls):
    """Virtual subclasses of an abstract class."""
    if "_abc_impl" not in vars(cls):
        return []
    references = _abc._get_dump(cls)[0]
    found = [reference() for reference in references]
    return sorted((c for c in found if c is not None), key=lambda c: (c.__module__, c.__qualname__))


def _silence_hooks(bases):
    """Takes away __init_subclass__ of the user's base classes while a skeleton is made."""
    quiet = []
    for base in {b for direct in bases for b in direct.__mro__}:
        hook = vars(base).get("__init_subclass__")
        if hook is not None and base.__module__ == "__main__":
            type.__setattr__(base, "__init_subclass__", classmethod(lambda cls, **_: None))
            quiet.append((base, hook))
    return quiet


def _make_enum(meta, bases, members, name):
    namespace = meta.__prepare__(name, bases)
    namespace["__module__"] = "__main__"
    for member, value in members:
        namespace[member] = value
    return meta.__new__(meta, name, bases, namespace)


_class_kind = ClassKind()
kinds.register(FunctionKind(), types.FunctionType)
kinds.register(ModuleKind(), types.ModuleType)
kinds.register(
    _class_kind,
    finder=lambda t, obj: _class_kind if issubclass(t, type) else None,
)
