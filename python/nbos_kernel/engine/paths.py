"""Names for objects inside a namespace: `d['x'].lock`, as a person would write them."""

import re
import types
from collections import deque

SEARCH_MAX = 20_000  # objects looked at for one path
LENGTH_MAX = 120  # of a path that people are to read


_CACHED_OUTPUT = re.compile(r"(_{1,3}|_\d+)(?!\w)")


def is_cached_output(path):
    """Does it begin with a name by which IPython keeps what was displayed?"""
    return _CACHED_OUTPUT.match(path) is not None


def find_path(holder, target):
    """The path of `target`, which is `holder`'s object or inlined in it."""
    return _shortened(_whole_path(holder, target))


def _shortened(path):
    if len(path) <= LENGTH_MAX:
        return path
    half = (LENGTH_MAX - 1) // 2
    return path[:half] + "…" + path[-half:]


def _whole_path(holder, target):
    base = path_of_node(holder)
    if holder is None or isinstance(holder, str) or holder.obj is target:
        return base
    inner = _search(holder.obj, target)
    return base + (inner if inner is not None else ".(inside)")


def path_of_node(node):
    steps = []
    for _ in range(64):
        if node is None or isinstance(node, str):
            break
        parent = node.parent
        if parent is not None and not isinstance(parent, str):
            steps.append(_search(parent.obj, node.obj) or ".(inside)")
        node = parent
    root = node if isinstance(node, str) else "(process)"
    return root + "".join(reversed(steps))


def _search(start, target):
    """Breadth first, so the shortest path wins."""
    seen = {id(start)}
    queue = deque([(start, "")])
    looked = 0
    while queue and looked < SEARCH_MAX:
        obj, path = queue.popleft()
        for step, child in _children(obj):
            looked += 1
            if child is target:
                return path + step
            if id(child) not in seen and not isinstance(child, (str, bytes, int, float, type)):
                seen.add(id(child))
                queue.append((child, path + step))
    return None


def _children(obj):
    if isinstance(obj, dict):
        for key, value in list(dict.items(obj)):
            yield f"[{key!r}]" if isinstance(key, (str, int)) else "[...]", value
            yield ".(key)", key
    elif isinstance(obj, (list, tuple)):
        for index, value in enumerate(obj):
            yield f"[{index}]", value
    elif isinstance(obj, (set, frozenset, deque)):
        for value in list(obj):
            yield ".(element)", value
    elif isinstance(obj, types.FunctionType):
        for name, cell in zip(obj.__code__.co_freevars, obj.__closure__ or ()):
            yield f".(closure {name})", cell
        yield ".__defaults__", obj.__defaults__
        yield ".__kwdefaults__", obj.__kwdefaults__
        yield ".__dict__", obj.__dict__
    elif isinstance(obj, types.CellType):
        try:
            yield "", obj.cell_contents
        except ValueError:
            pass
    elif isinstance(obj, types.MethodType):
        yield ".__self__", obj.__self__
        yield ".__func__", obj.__func__
    else:
        yield from _attributes(obj)


def _attributes(obj):
    try:
        attributes = vars(obj)
    except Exception:
        attributes = {}
    for name, value in list(attributes.items()):
        if isinstance(name, str):
            yield f".{name}", value
    for cls in type(obj).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            try:
                yield f".{name}", object.__getattribute__(obj, name)
            except Exception:
                pass
