"""Applies the objects of a delta to live objects: shells first, then states, in place.

An object that exists keeps its identity unless its kind or generation changed. States that cannot be
set yet (a key whose hash needs attributes, a gradient whose shape is not there) wait for the others.
"""

import io
import pickle

from . import kinds, kinds_code, kinds_numpy, kinds_pandas, kinds_torch  # noqa: F401 (they register)
from .node import Node
from .table_format import FormatError, decode_value


class Loader:
    """One delta onto one table of objects. After a failure the interpreter is not usable."""

    def __init__(self, context, nodes, puts):
        self._context = context
        self._nodes = nodes  # id -> node, with objects
        self._puts = puts  # id -> value
        self._parts = {}
        self._fresh = {}  # id -> was it made here
        self._under_way = set()

    def run(self):
        for node_id in self._puts:
            self.object(node_id)
        waiting = sorted(self._puts, key=lambda i: self._nodes[i].kind_object.order)
        failure = None
        while waiting:
            postponed = []
            for node_id in waiting:
                try:
                    self._fill(node_id)
                except Exception as error:
                    failure = error
                    postponed.append(node_id)
            if len(postponed) == len(waiting):
                raise FormatError(f"cannot set the state of object {postponed[0]}: {failure!r}") from failure
            waiting = postponed

    def object(self, node_id):
        if node_id in self._fresh or node_id not in self._puts:
            node = self._nodes.get(node_id)
            if node is None:
                raise FormatError(f"the delta refers to object {node_id}, which this replica lacks")
            return node.obj
        if node_id in self._under_way:
            raise FormatError(f"object {node_id} needs itself to be made")
        parts = self._parts[node_id] = decode_value(self._puts[node_id])
        name, _, generation = bytes(parts[0]).decode().rpartition(" ")
        kind, generation = kinds.by_name(name), int(generation)
        node = self._nodes.get(node_id)
        if node is not None and node.kind == name and node.generation == generation:
            self._fresh[node_id] = False
            return node.obj
        self._under_way.add(node_id)
        obj = kind.make(self.load(parts[1]))
        self._under_way.discard(node_id)
        node = Node(node_id, type(obj))
        node.obj, node.kind, node.generation = obj, name, generation
        self._nodes[node_id] = node
        self._fresh[node_id] = True
        return obj

    def _fill(self, node_id):
        parts = self._parts[node_id]
        if not parts[2]:
            return
        node = self._nodes[node_id]
        state = self.load(parts[2], parts[3:])
        node.kind_object.fill(node.obj, state, self._fresh[node_id])

    def load(self, data, buffers=()):
        if not data:
            return None
        unpickler = _Unpickler(io.BytesIO(data), buffers=buffers)
        unpickler.resolve = self._resolve
        return unpickler.load()

    def _resolve(self, reference):
        if reference[0] == "=":
            return self._context.resolve(reference)
        return self.object(reference)


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, reference):
        return self.resolve(reference)
