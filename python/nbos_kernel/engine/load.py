"""Applies the objects of a delta to live objects: shells first, then states, in place.

An object that exists keeps its identity unless its kind or generation changed. States that cannot be
set yet (a key whose hash needs attributes, a gradient whose shape is not there) wait for the others.
"""

import io
import pickle

from . import kinds, kinds_code, kinds_numpy, kinds_pandas, kinds_torch  # noqa: F401 (they register)
from .node import Node
from .table_format import FormatError, decode_value
from .unavailable import Unavailable


class Loader:
    """One delta onto one table of objects. After a failure the interpreter is not usable."""

    def __init__(self, context, nodes, puts):
        self._context = context
        self._nodes = nodes  # id -> node, with objects
        self._puts = puts  # id -> value
        self._parts = {}
        self._fresh = {}  # id -> was it made here
        self._under_way = set()
        self._filled = set()
        self._failure = None
        self.notices = []

    def run(self):
        code = [i for i in self._puts if self._kind_of(i).code]
        self._run(code, [])
        self._until_done(code, self.object)
        rest = [i for i in self._puts if not self._kind_of(i).code]
        self._run(rest, [i for i in code if i not in self._filled])
        for node_id in self._until_stuck(rest, self.object):
            self._give_up(node_id)
        for node_id in self._until_stuck([i for i in self._puts if i not in self._filled], self._fill):
            self._give_up(node_id)

    def _run(self, unmade, unfilled):
        """Makes and fills what it can; making one object may need another that is filled."""
        while unmade or unfilled:
            left = self._until_stuck(unmade, self.object)
            made = [i for i in unmade if i not in left]
            ready = sorted(unfilled + made, key=lambda i: self._kind_of(i).order)
            still = self._until_stuck(ready, self._fill)
            if len(left) == len(unmade) and len(still) == len(ready):
                return
            unmade, unfilled = left, still

    def _kind_of(self, node_id):
        if node_id not in self._parts:
            self._parts[node_id] = decode_value(self._puts[node_id])
        return kinds.by_name(bytes(self._parts[node_id][0]).decode().rpartition(" ")[0])

    def _until_stuck(self, waiting, step):
        """Does each once, again and again while that helps; returns what is left."""
        while waiting:
            postponed = []
            for node_id in waiting:
                try:
                    step(node_id)
                except Exception as error:
                    self._failure = error
                    postponed.append(node_id)
            if len(postponed) == len(waiting):
                break
            waiting = postponed
        return waiting

    def _give_up(self, node_id):
        """A library cannot rebuild its object here. The rest of the kernel shall not suffer from it."""
        kind = self._kind_of(node_id)
        if kind.code or not kind.may_fail:
            raise FormatError(f"object {node_id} ({kind.name}): {self._failure!r}") from self._failure
        reason = f"it cannot be rebuilt here: {self._failure}"
        node = self._nodes.get(node_id)
        if node is None:
            node = self._nodes[node_id] = Node(node_id, Unavailable)
            node.obj, node.kind, node.in_table = Unavailable("(an object)", kind.name, reason), kind.name, True
            self._fresh[node_id] = True
        self._filled.add(node_id)
        self.notices.append(("(an object)", type(node.obj).__qualname__, reason))

    def _until_done(self, waiting, step):
        left = self._until_stuck(waiting, step)
        if left:
            name = self._kind_of(left[0]).name
            raise FormatError(f"object {left[0]} ({name}): {self._failure!r}") from self._failure

    def object(self, node_id):
        if node_id in self._fresh or node_id not in self._puts:
            node = self._nodes.get(node_id)
            if node is None:
                raise FormatError(f"the delta refers to object {node_id}, which this replica lacks")
            return node.obj
        if node_id in self._under_way:
            raise FormatError(f"object {node_id} needs itself to be made")
        kind = self._kind_of(node_id)
        parts = self._parts[node_id]
        name, _, generation = bytes(parts[0]).decode().rpartition(" ")
        generation = int(generation)
        node = self._nodes.get(node_id)
        if node is not None and node.kind == name and node.generation == generation:
            self._fresh[node_id] = False
            return node.obj
        self._under_way.add(node_id)
        try:
            obj = kind.make(self.load(parts[1]))
        finally:
            self._under_way.discard(node_id)
        node = Node(node_id, type(obj))
        node.obj, node.kind, node.generation = obj, name, generation
        node.in_table = True
        self._nodes[node_id] = node
        self._fresh[node_id] = True
        return obj

    def _fill(self, node_id):
        parts = self._parts[node_id]
        node = self._nodes[node_id]
        if not node.kind_object.always_fill and not parts[2] or node_id in self._filled:
            self._filled.add(node_id)
            return
        state = self.load(parts[2], parts[3:])
        node.kind_object.fill(node.obj, state, self._fresh[node_id])
        self._filled.add(node_id)

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
