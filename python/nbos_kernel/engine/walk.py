"""One walk over everything that user code can reach: finds objects, pickles them, finds what changed.

Objects with an id are nodes. Each node is pickled by itself; references to other nodes are ids,
everything else is inlined. An object met from two nodes becomes a node (promotion), so that sharing
is never copied. Nothing is taken as unchanged on a hint: every walk reads everything.

While a walk runs it holds every object it met, so that addresses stay unique; afterwards only
address, type and id are kept.
"""

import bisect
import hashlib
import io
import pickle

from . import kinds, reduce
from .node import Node, Token
from .paths import find_path
from .types_of import ATOMS, BY_NAME_CHECK, INLINE, NODE, STORAGE, VALUE, TypeCodes

try:
    from xxhash import xxh3_128 as _hasher
    from xxhash import xxh3_128_digest as _digest
except ImportError:

    def _hasher(data=b""):
        return hashlib.blake2b(data, digest_size=16)

    def _digest(data):
        return hashlib.blake2b(data, digest_size=16).digest()


_OURS = (tuple, list, dict)
_NO_CREATE = _digest(b"")
EXEMPT_DEPTH = 5


class Unreplicable(Exception):
    """Raised by a kind for an object that cannot be carried; the text is the reason."""


class Walk(pickle.Pickler):
    """One walk. `known` maps addresses to the nodes of the walk before (and of this one)."""

    def __init__(self, context, known, new_id):
        self._buffer = io.BytesIO()
        self._oob = []
        super().__init__(self._buffer, 5, buffer_callback=self._oob.append)
        self.context = context
        self.known = known
        self.new_id = new_id
        self.codes = TypeCodes(context, kinds.needs_node)
        self.owner = {}  # address -> (token, object) of what is inlined
        self.queue = []
        self.nodes = []  # reached
        self.unread_roots = False  # something that a root had inlined has an id by now
        self._memory = []  # (start, end, key, object) of memory owners met, by start
        self._starts = []
        self.current = None  # token
        self.no_inline = False
        self.forced = False
        self._refs = None  # ids met by the pickle under way
        self._unsupported = None
        self._tokens = []
        self._tokens_of = {}  # node id -> tokens of its latest pickle
        self._top = None
        self._exempt = {}  # address -> object of ours that is inlined even when nothing else is
        self._keep = []  # objects made for pickles: their addresses must stay theirs

    # ---- called by the C pickler for every object ------------------------------------------------

    def persistent_id(self, obj):
        t = type(obj)
        if t in ATOMS or obj is self._top:
            return None
        address = id(obj)
        node = self.known.get(address)
        if node is not None and node.type is t:
            if not node.reached:
                self._reach(node, obj)
            self._refs.add(node.id)
            return node.id
        own = self.owner.get(address)
        if own is not None and own[0].valid:
            if own[0] is self.current:
                return None
            self._take_over(own[0])
            return self._promote(obj, address, t)
        code = self.codes.of(t)
        if code is VALUE:
            return None
        if code is INLINE:
            if self.no_inline and address not in self._exempt:
                return self._promote(obj, address, t)
        elif code is NODE:
            return self._promote(obj, address, t)
        elif code is STORAGE:
            return self.reference_to_storage(obj)
        elif code is BY_NAME_CHECK:
            name = self.context.name_of(obj, t)
            if name is not None:
                return name or None  # "": the pickler's own global reference
            if t in kinds.ALWAYS_NODES or self.no_inline or isinstance(obj, type):
                return self._promote(obj, address, t)
        self.owner[address] = (self.current, obj)
        return None

    def reducer_override(self, obj):
        try:
            result = reduce.inline(obj, self)
            if self.no_inline and self.codes.of(type(obj)) is VALUE:
                self.exempt_parts(result)
            return result
        except RecursionError:
            raise
        except Exception as error:
            return self.unavailable(obj, str(error) or type(error).__name__)

    # ---- nodes -----------------------------------------------------------------------------------

    def _take_over(self, token):
        """What it inlined is pickled again, with a reference in its place."""
        token.valid = False
        if isinstance(token.node, str):
            self.unread_roots = True
        else:
            self.queue.append(token.node)

    def _promote(self, obj, address, t):
        node = self.known[address] = Node(self.new_id(), t)
        self._reach(node, obj)
        self._refs.add(node.id)
        return node.id

    def _reach(self, node, obj):
        node.obj = obj
        node.reached = True
        node.parent = self.current.node if self.current is not None else None
        self.nodes.append(node)
        self.queue.append(node)

    def node_of(self, obj, parent=None):
        """The node of an object that gets one whatever its type."""
        address, t = id(obj), type(obj)
        node = self.known.get(address)
        if node is None or node.type is not t:
            own = self.owner.get(address)
            if own is not None and own[0].valid:
                self._take_over(own[0])
            node = self.known[address] = Node(self.new_id(), t)
        if not node.reached:
            self._reach(node, obj)
            if parent is not None:
                node.parent = parent
        return node

    def id_of(self, obj, parent):
        """The id under which a root refers to an object that gets one."""
        if self.codes.of(type(obj)) is STORAGE:
            self._refs = set()
            return self.reference_to_storage(obj)
        return self.node_of(obj, parent).id

    def exempt(self, *objects):
        """Kinds say which parts of a state they have just made: those are never objects with ids."""
        if self.no_inline:
            for obj in objects:
                self._exempt[id(obj)] = obj

    def exempt_parts(self, parts, depth=EXEMPT_DEPTH):
        """Like exempt, for what must be whole when the object is made: also containers inside."""
        if self.no_inline and type(parts) in _OURS:
            self._exempt[id(parts)] = parts
            if depth:
                for part in parts.values() if type(parts) is dict else parts:
                    self.exempt_parts(part, depth - 1)

    def take_unsupported(self):
        """What the last root_section could not carry."""
        taken, self._unsupported = self._unsupported, []
        return taken

    def reference_to_storage(self, storage):
        """Tensors share storages whose Python wrappers come and go: the address is the storage's."""
        address = storage._cdata
        node = self.known.get(address)
        if node is None or node.type is not type(storage):
            node = self.known[address] = Node(self.new_id(), type(storage))
        if not node.reached:
            self._reach(node, storage)
        self._refs.add(node.id)
        return node.id

    def memory_alias(self, obj, address, size):
        """(owner, its address) when another object met before owns this memory, else (None, 0).

        numpy and torch can share memory without saying so (torch.from_numpy).
        """
        if not size:
            return None, 0
        key = getattr(obj, "_cdata", None) or id(obj)
        at = bisect.bisect_right(self._starts, address) - 1
        if at >= 0:
            start, end, owner_key, owner = self._memory[at]
            if owner_key == key:
                return None, 0
            if address + size <= end:
                return owner, start
        self._starts.insert(at + 1, address)
        self._memory.insert(at + 1, (address, address + size, key, obj))
        return None, 0

    def drain(self):
        """Pickles nodes until none is left. Iterative: a long chain of objects needs no stack."""
        queue = self.queue
        while queue:
            self._pickle_node(queue.pop())

    def _pickle_node(self, node):
        if node.kind == "special":
            return
        self._unsupported = []
        node.unsupported = ()
        self._refs = set()
        self._oob.clear()
        for token in self._tokens_of.get(node.id, ()):
            token.valid = False
        self._tokens = self._tokens_of[node.id] = []
        self.current = Token(node)
        try:
            self._pickle_with(node, kinds.kind_of(node.obj, self))
        except Exception as error:
            reason = str(error) or type(error).__name__
            if isinstance(error, RecursionError):
                if not self.no_inline:
                    self._pickle_flat(node)
                    return
                reason = "it is nested too deeply"
            for token in self._tokens:
                token.valid = False
            self._unsupported = []
            self._pickle_with(node, kinds.UNAVAILABLE, reason)
        node.unsupported = self._unsupported

    def _pickle_flat(self, node):
        """Too deep for the stack: from here on every container is a node of its own."""
        self.no_inline = True
        self._pickle_node(node)
        # Objects found below are queued; they stay flat, since one deep structure is rarely alone.

    def _pickle_with(self, node, kind, *facts):
        create, state = kind.split(node.obj, self, *facts)
        create_part = state_part = b""
        create_digest = _NO_CREATE
        refs = self._refs  # split may have met some
        if create is not None:
            create_part = self.section(node, create)
            create_digest = _digest(create_part)
        node.create_refs = refs
        if state is not None:
            if kind.plain_test is not None and kind.plain_test(state):
                state_part = pickle.dumps(state, 5)  # nothing but atoms: no call for each of them
            else:
                self._refs = set()
                state_part = self.section(node, state)
                refs = refs | self._refs if refs else self._refs
        node.refs = refs
        self._judge(node, kind, create_digest, create_part, state_part)

    def _judge(self, node, kind, create_digest, create_part, state_part):
        """Is it what the table has?"""
        node.create_digest = create_digest
        renewed = node.sent_create is not None and node.sent_create != create_digest
        node.generation = node.sent_generation + (1 if renewed or node.bumped else 0)
        node.kind = kind.name
        buffers = ()
        if self._oob:
            buffers = [b.raw() for b in self._oob]
            self._oob.clear()
            hasher = _hasher(kind.name_bytes + create_digest + state_part)
            for buffer in buffers:
                hasher.update(buffer)
            node.digest = hasher.digest()
        else:
            node.digest = _digest(kind.name_bytes + create_digest + state_part)
        same = node.digest == node.sent_digest and node.generation == node.sent_generation
        if same and not self.forced:
            node.parts = None
        else:
            meta = b"%s %d" % (kind.name_bytes, node.generation)
            node.parts = [meta, create_part, state_part, *buffers]

    def pickle_again(self, node):
        """Keeps its parts even when they equal what the table has: what they refer to has changed."""
        self.forced = True
        self._pickle_node(node)
        self.drain()
        self.forced = False

    def section(self, node, value):
        """`value` pickled, with references. What it inlines belongs to this section."""
        self.current = Token(node)
        self._tokens.append(self.current)
        if type(value) in _OURS:
            self._top = value  # made for this pickle: nobody else refers to it
            self._keep.append(value)
        buffer = self._buffer
        buffer.seek(0)
        buffer.truncate()
        self.clear_memo()
        self.dump(value)
        return buffer.getvalue()

    def root_section(self, root, value):
        """Like section, for what is no object: a binding or process state. Returns (bytes, refs)."""
        self._refs = set()
        self._unsupported = []
        self._tokens = []
        data = self.section(root, value)
        return data, frozenset(self._refs)

    def release(self):
        """Lets go of all objects; the walk is over."""
        self.owner.clear()
        self._keep.clear()
        self._exempt.clear()
        self._top = None
        self.known = {}
        self._memory.clear()
        self.clear_memo()

    # ---- what cannot be carried ------------------------------------------------------------------

    def unavailable(self, obj, reason):
        path = self.path_of(obj)
        kind = _type_name(type(obj))
        self._unsupported.append({"path": path, "type": kind, "reason": reason})
        from .unavailable import Unavailable

        return Unavailable, (path, kind, reason)

    def note(self, obj, reason):
        """The object is carried, but not all of it."""
        self._unsupported.append(
            {"path": self.path_of(obj), "type": _type_name(type(obj)), "reason": reason}
        )

    def path_of(self, obj):
        return find_path(self.current.node if self.current is not None else None, obj)


def _type_name(t):
    return t.__qualname__ if t.__module__ in ("builtins", "__main__") else f"{t.__module__}.{t.__qualname__}"
