"""Names and what they are bound to: the namespace ("n:NAME") and the output cache ("u:NUMBER").

A binding is an atom, something known by name, a plain value, or the id of an object. A name that is
not in the table is bound as in a fresh interpreter; an empty value means that a name every
interpreter starts with has been deleted.
"""

from . import table_format as fmt
from .paths import is_cached_output
from .types_of import ATOMS, BY_NAME_CHECK, VALUE

_ABSENT = object()
_DELETED = fmt.encode_value([])


def reference_pickle(node_id):
    """The pickle of a reference: what the walk's pickler would write, without asking it."""
    name = node_id.encode()
    return b"\x80\x05\x8c" + bytes([len(name)]) + name + b"Q."


class _Scope:
    """One dict of names. `sent` is what the table has: name -> atom, or a marker of another kind."""

    def __init__(self, prefix, namespace):
        self.prefix = prefix
        self.namespace = namespace
        self.baseline = {}
        self.sent = {}
        self.changes = {}
        self.unsupported = []

    def items(self):
        """IPython's names for outputs come last: an object is called by the user's name for it."""
        items, outputs = [], []
        for name, value in list(dict.items(self.namespace)):
            if type(name) is str:
                (outputs if name[:1] == "_" and is_cached_output(name) else items).append((name, value))
        return items + sorted(outputs, key=lambda item: not item[0].strip("_"))

    def name_of_key(self, text):
        return text


class _OutScope(_Scope):
    def items(self):
        return [(str(k), v) for k, v in list(dict.items(self.namespace)) if type(k) is int]

    def name_of_key(self, text):
        return int(text)


class _Node(str):
    """Marks that a name is bound to an object with this id."""

    __slots__ = ()


class _ByName:
    """Marks that a name is bound to what a module offers; keeps it to compare."""

    __slots__ = ("obj",)

    def __init__(self, obj):
        self.obj = obj


class _Pickled(bytes):
    """Marks a plain value."""

    __slots__ = ()


class Bindings:
    def __init__(self, engine):
        shell = engine.shell
        self._context = engine.context
        self._scopes = [_Scope("n:", shell.user_ns), _OutScope("u:", shell.user_ns.get("Out", {}))]

    def take_baseline(self):
        for scope in self._scopes:
            scope.baseline = dict(scope.items())
        for name, value in self._scopes[0].baseline.items():
            if type(value) not in ATOMS and id(value) not in map(id, self._context.specials.values()):
                self._context.add_special(f"=b:{name}", value)

    # ---- out -------------------------------------------------------------------------------------

    def walk(self, walk):
        for scope in self._scopes:
            scope.changes = {}
            scope.unsupported = []
            self._walk_scope(scope, walk)

    def _walk_scope(self, scope, walk):
        sent, baseline, present = scope.sent, scope.baseline, set()
        for name, value in scope.items():
            present.add(name)
            if type(value) in ATOMS:
                if sent.get(name, _ABSENT) is value:
                    continue
                if name not in sent and baseline.get(name, _ABSENT) is value:
                    continue
                self._atom(scope, name, value, walk)
            elif name in baseline and baseline[name] is value:
                if name in sent:
                    scope.changes[name] = (_ABSENT, None)
            else:
                self._object(scope, name, value, walk)
        for name in sent:
            if name not in present and not (name in baseline and sent[name] is _DELETED):
                scope.changes[name] = (_ABSENT, None)
        for name in baseline:
            if name not in present and sent.get(name) is not _DELETED:
                scope.changes[name] = (_DELETED, _DELETED)

    def _atom(self, scope, name, value, walk):
        data, _ = walk.root_section(name, value)
        scope.changes[name] = (value, fmt.encode_value([data]))

    def _object(self, scope, name, value, walk):
        before = scope.sent.get(name)
        t = type(value)
        node = walk.known.get(id(value))
        if node is None or node.type is not t:
            code = walk.codes.of(t)
            if code is VALUE:
                data, _ = walk.root_section(name, value)
                scope.unsupported += walk.take_unsupported()
                if before != data or type(before) is not _Pickled:
                    scope.changes[name] = (_Pickled(data), fmt.encode_value([data]))
                return
            if code is BY_NAME_CHECK and walk.context.name_of(value, t) is not None:
                if type(before) is not _ByName or before.obj is not value:
                    data, _ = walk.root_section(name, value)
                    scope.changes[name] = (_ByName(value), fmt.encode_value([data]))
                return
        node_id = walk.id_of(value, name)
        if type(before) is not _Node or before != node_id:
            scope.changes[name] = (_Node(node_id), fmt.encode_value([reference_pickle(node_id)]))

    def resend(self, moved):
        """Objects of these ids are made anew: bind their names again."""
        for scope in self._scopes:
            for name, marker in scope.sent.items():
                if type(marker) is _Node and marker in moved and name not in scope.changes:
                    scope.changes[name] = (marker, fmt.encode_value([reference_pickle(marker)]))

    def emit(self, delta):
        unsupported = []
        for scope in self._scopes:
            unsupported += scope.unsupported
            for name, (marker, value) in scope.changes.items():
                key = scope.prefix + name
                if value is None:
                    delta.delete(key)
                    del scope.sent[name]
                else:
                    delta.put(key, value)
                    scope.sent[name] = marker
            scope.changes = {}
        return unsupported

    def rebase(self, new):
        """`walk` has just read what other executors' deltas made: that is what the table has."""
        for scope in self._scopes:
            for name, (marker, value) in scope.changes.items():
                if value is None:
                    continue  # the table has a name that we do not: the next delta says so
                resend = type(marker) is _Node and marker in new
                scope.sent[name] = _Node("") if resend else marker
            scope.changes = {}

    # ---- in --------------------------------------------------------------------------------------

    def apply(self, operations, loader):
        for scope in self._scopes:
            for key, value in operations:
                if key.startswith(scope.prefix):
                    self._apply_one(scope, key[2:], value, loader)

    def _apply_one(self, scope, name, value, loader):
        key = scope.name_of_key(name)
        if value is None:
            scope.sent.pop(name, None)
            if name in scope.baseline:
                scope.namespace[key] = scope.baseline[name]
            else:
                scope.namespace.pop(key, None)
            return
        parts = fmt.decode_value(value)
        if not parts:
            scope.namespace.pop(key, None)
            scope.sent[name] = _DELETED
            return
        scope.namespace[key] = loader.load(parts[0])
        scope.sent[name] = _Node("")

    def reset(self):
        for scope in self._scopes:
            for name in list(scope.sent):
                self._apply_one(scope, name, None, None)
