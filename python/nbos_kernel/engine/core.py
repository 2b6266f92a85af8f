"""The first state engine: object-granular, keyed by address, sound by reading everything each cell.

One engine lives in each interpreter, standby or executor. Between cells it holds every object of the
table by id; while user code runs it holds none, so that weak references, finalizers and `del` behave
as they do without it. See docs/design/0004-first-state-engine.md.

Threads  The main thread only, and never while user code runs.
"""

import gc
import os
import secrets

from . import table_format as fmt
from .bindings import Bindings
from .context import Context
from .load import Loader
from .roots import Roots
from .walk import Walk


class Engine:
    name = "walk-1"

    def __init__(self, shell):
        self.shell = shell
        self.context = Context(shell.user_ns)
        self._register_specials()
        self.nodes = {}  # id -> Node: the table's objects
        self.known = {}  # address -> Node, only while user code runs
        self.bindings = Bindings(self)
        self.roots = Roots(self)
        self._prefix = secrets.token_hex(3)
        self._count = 0
        self._stale = False  # another executor wrote the table: read our own form of it first

    def _register_specials(self):
        import sys

        shell, add = self.shell, self.context.add_special
        add("=ns", shell.user_ns)
        add("=main", shell.user_module)
        add("=shell", shell)
        add("=kernel", getattr(shell, "kernel", None))
        add("=In", shell.user_ns.get("In"))
        add("=Out", shell.user_ns.get("Out"))
        add("=dh", shell.user_ns.get("_dh"))
        add("=history", getattr(shell, "history_manager", None))
        add("=displayhook", getattr(shell, "displayhook", None))
        add("=display_pub", getattr(shell, "display_pub", None))
        add("=sys.path", sys.path)
        add("=sys.modules", sys.modules)
        add("=environ", os.environ)
        for name in ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__"):
            add(f"=sys.{name}", getattr(sys, name))

    # ---- life ------------------------------------------------------------------------------------

    def prepare(self):
        """Whatever of a baseline can be taken before a kernel is there; adopt is then quick."""
        self.roots.prepare()

    def adopt(self, replica):
        """From now on this interpreter belongs to a kernel. Ids of this process are unique in it."""
        self._prefix = f"{replica}.{secrets.token_hex(3)}"
        self.bindings.take_baseline()
        self.roots.take_baseline()

    def before_cell(self):
        """Just before user code runs: lets go of every object."""
        self.roots.before_cell()
        if self._stale:
            with _no_collections():
                self._rebase()
        self.known = {}
        for node in self.nodes.values():
            self.known[node_address(node)] = node
            node.obj = None
            node.parent = None

    def capture(self):
        """(delta, unsupported) of what has changed since before_cell."""
        with _no_collections():
            return self._capture()

    def _capture(self):
        walk = self._walk()
        delta = fmt.DeltaWriter()
        unsupported = []
        self._spread_generations(walk)
        reached = {node.id: node for node in walk.nodes}
        for node in walk.nodes:
            if node.parts is not None:
                delta.put("o:" + node.id, fmt.encode_value(node.parts))
                unsupported += node.take_news()
            node.mark_sent()
        for node_id, node in self.nodes.items():
            if node_id not in reached and node.in_table:
                delta.delete("o:" + node_id)
        unsupported += self.bindings.emit(delta)
        unsupported += self.roots.emit(delta)
        self.nodes = reached
        walk.release()
        return delta.take(), _unique(unsupported)

    def apply(self, delta):
        with _no_collections():
            self._apply(delta)

    def _apply(self, delta):
        operations = fmt.read_delta(delta)
        puts = {key[2:]: value for key, value in operations if key[:2] == "o:" and value is not None}
        self._stale = True
        self.known = {}
        loader = Loader(self.context, self.nodes, puts)
        self.roots.apply_first(operations, loader)
        loader.run()
        self.roots.notices += loader.notices
        self.bindings.apply(operations, loader)
        self.roots.apply(operations, loader)
        for key, value in operations:
            if value is None and key[:2] == "o:":
                del self.nodes[key[2:]]

    def load(self, delta):
        """Replaces the whole state."""
        self.bindings.reset()
        self.roots.reset()
        self.nodes = {}
        self.apply(delta)

    # ---- one walk --------------------------------------------------------------------------------

    def new_id(self):
        self._count += 1
        return f"{self._prefix}.{self._count:x}"

    def _walk(self):
        for node in self.nodes.values():
            node.reached = False
        known = dict(self.known)
        known.update(self.context.special_nodes())
        walk = Walk(self.context, known, self.new_id)
        self.roots.begin(walk)
        self.bindings.walk(walk)
        walk.drain()
        self.roots.walk(walk)
        walk.drain()
        while walk.unread_roots:
            walk.unread_roots = False
            self.roots.read_again(walk)
            walk.drain()
        return walk

    def _rebase(self):
        """After other executors' deltas: what would we say of this state? Only differences count later.

        Objects that only our walk sees as shared get ids of ours, and go out with the next delta.
        """
        self.known = {node_address(node): node for node in self.nodes.values()}
        kinds_before = {node.id: node.kind for node in self.nodes.values()}
        walk = self._walk()
        new = {node.id for node in walk.nodes if node.id not in self.nodes}
        for node in walk.nodes:
            resend = node.id in new or not new.isdisjoint(node.refs)
            resend = resend or kinds_before[node.id] != node.kind
            node.sent_generation = node.generation
            node.mark_sent()
            node.in_table = node.id not in new
            if resend:
                node.sent_digest = None
            self.nodes[node.id] = node
        for node in self.nodes.values():
            if not node.reached:
                node.type = None  # gone here: the next delta deletes it, and its address means nothing
        self.bindings.rebase(new)
        self.roots.rebase(new)
        walk.release()
        self._stale = False

    def _spread_generations(self, walk):
        """Objects that are made anew: whoever refers to them must be sent, or be made anew, too."""
        moved = {n.id for n in walk.nodes if n.sent_create and n.generation != n.sent_generation}
        while moved:
            made_anew = set()
            for node in list(walk.nodes):
                if moved.isdisjoint(node.refs):
                    continue
                if node.sent_create and not node.bumped and not moved.isdisjoint(node.create_refs):
                    if node.generation == node.sent_generation:
                        made_anew.add(node.id)
                        node.bumped = True
                if node.parts is None or node.bumped:
                    walk.pickle_again(node)
            self.bindings.resend(moved)
            self.roots.resend(moved)
            moved = made_anew


class _no_collections:
    """A walk makes many short-lived objects and no garbage: collections in between find nothing."""

    def __enter__(self):
        self._enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *exc):
        if self._enabled:
            gc.enable()


def node_address(node):
    """Where the walk looks for the object of this node."""
    return getattr(node.obj, "_cdata", None) if node.kind == "storage" else id(node.obj)


def _unique(unsupported):
    seen, out = set(), []
    for item in unsupported:
        key = (item["path"], item["type"])
        if key not in seen:
            seen.add(key)
            out.append(item)
    return out
