"""What a walk and an apply know about the process: special objects, and what is found by name.

An object that a module offers under a name travels as that name. Modules of the user's own (not of
the installation) are the exception for data: their variables are state (see roots.py).
"""

import site
import sys
import sysconfig
import types

from .node import Node
from .types_of import NATIVE_FUNCTIONS

LIBRARY_FOLDERS = tuple(
    {
        folder
        for folder in (
            *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
            *getattr(site, "getsitepackages", list)(),
            getattr(site, "getusersitepackages", str)(),
            sys.prefix + "/lib",
        )
        if folder
    }
) + (__file__.rpartition("/nbos_kernel/")[0] + "/nbos_kernel/",)


def is_library_module(module):
    """Part of the installation, so that every replica has the same."""
    file = getattr(module, "__file__", None)
    if file is None:
        spec = getattr(module, "__spec__", None)
        return spec is not None and (spec.origin in ("built-in", "frozen") or spec.loader is None
                                     or bool(spec.submodule_search_locations))
    return file.startswith(LIBRARY_FOLDERS)


_NATIVE_TYPES = (type(None), type(Ellipsis), type(NotImplemented))  # pickle knows these


class Context:
    """Owned by the engine; lives as long as it. Special objects are registered under a name."""

    def __init__(self, namespace):
        self.namespace = namespace
        self.specials = {}  # name -> object
        self._library = {}  # module name -> (module, is it of the installation)
        self._constants = {}  # module name -> (size of its dict, {id: name})

    def add_special(self, name, obj):
        if obj is not None:
            self.specials[name] = obj

    def special_nodes(self):
        """Address -> node, for a walk."""
        nodes = {}
        for name, obj in self.specials.items():
            node = Node(name, type(obj))
            node.kind = "special"
            node.reached = True
            nodes[id(obj)] = node
        return nodes

    def resolve(self, name):
        if name in self.specials:
            return self.specials[name]
        kind, _, rest = name[1:].partition(":")
        if kind == "d":
            return vars(_import(rest))
        if kind == "a":
            module, _, attribute = rest.partition(":")
            return getattr(_import(module), attribute)
        raise KeyError(f"unknown special object {name!r}")

    # ---- by name ---------------------------------------------------------------------------------

    def is_library(self, module_name):
        module = sys.modules.get(module_name)
        if module is None:
            return False
        found = self._library.get(module_name)
        if found is None or found[0] is not module:
            found = self._library[module_name] = (module, is_library_module(module))
        return found[1]

    def is_library_type(self, t):
        return t.__module__ == "builtins" or self.is_library(t.__module__)

    def name_of(self, obj, t):
        """A reference by name; "" when the pickler finds it by itself; None when it has no name."""
        if t is types.BuiltinFunctionType:
            return self._name_of_builtin(obj)
        if t is types.FunctionType or t.__name__ in NATIVE_FUNCTIONS:
            return "" if self._is_importable(obj) else None
        if isinstance(obj, type):
            return "" if self._is_importable(obj) else self._name_of_hidden_type(obj)
        if isinstance(obj, types.ModuleType):
            return "" if self.module_name(obj) is not None else None
        return self._name_of_constant(obj, t)

    def _name_of_hidden_type(self, cls):
        """Types of the interpreter itself that say they are builtins but are found elsewhere."""
        if cls in _NATIVE_TYPES:
            return ""
        if cls.__flags__ & (1 << 9) and cls.__module__ != "builtins":
            return None  # made by a class statement: travels by value
        for module_name in ("types", "_collections_abc", "functools", "weakref"):
            module = sys.modules.get(module_name)
            for name, value in vars(module).items() if module else ():
                if value is cls:
                    return f"=a:{module_name}:{name}"
        return None

    def _name_of_builtin(self, obj):
        owner = obj.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            return ""
        return None

    def _is_importable(self, obj):
        module_name = getattr(obj, "__module__", None)
        if not isinstance(module_name, str) or module_name == "__main__":
            return False
        found = sys.modules.get(module_name)
        if not self._is_found_by(module_name, found):
            return False
        for part in obj.__qualname__.split("."):
            if isinstance(found, types.ModuleType):
                found = vars(found).get(part)
            else:
                found = getattr(found, part, None)
            if found is None:
                return False
        return found is obj

    def module_name(self, module):
        """The name under which a replica can import the module, or None for one made by hand."""
        name = getattr(module, "__name__", None)
        return name if self._is_found_by(name, module) else None

    def _is_found_by(self, name, module):
        """Whether importing `name` gives `module` anywhere: it was not made by hand."""
        if module is None or sys.modules.get(name) is not module:
            return False
        # _io calls itself io, and has no spec until somebody imports it by its own name.
        return getattr(module, "__spec__", None) is not None or name in sys.builtin_module_names

    def _name_of_constant(self, obj, t):
        """Singletons of libraries: sentinels, the global random generator, os.environ."""
        if t.__module__ == "builtins" or not self.is_library(t.__module__):
            return None
        module = sys.modules[t.__module__]
        members = vars(module)
        size, names = self._constants.get(t.__module__, (0, None))
        if names is None or size != len(members):
            names = {id(v): k for k, v in list(members.items()) if not k.startswith("__")}
            self._constants[t.__module__] = (len(members), names)
        name = names.get(id(obj))
        if name is not None and members.get(name) is obj:
            return f"=a:{t.__module__}:{name}"
        return None


def _import(name):
    import importlib

    return importlib.import_module(name)
