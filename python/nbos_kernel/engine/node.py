"""What the engine knows about one object that has an id."""


from . import kinds
from .paths import is_cached_output


class Node:
    """An object of the table. Holds the object itself only while no user code runs."""

    __slots__ = (
        "id",
        "type",  # of the object: another type at the same address is another object
        "kind",
        "obj",
        "reached",
        "parent",  # the node or root name from which the walk met it first
        "generation",  # of the object's identity: another generation is another object
        "bumped",  # something it was made from has been made anew
        "create_digest",
        "digest",
        "create_refs",
        "refs",
        "parts",  # only when they differ from what the table has
        "sent_generation",  # these three: what the table has
        "sent_create",
        "sent_digest",
        "in_table",
        "unsupported",
        "told",  # (type, reason) of what the user has been told about it
    )

    def __init__(self, node_id, object_type):
        self.id = node_id
        self.type = object_type
        self.kind = None
        self.obj = None
        self.reached = False
        self.parent = None
        self.generation = self.sent_generation = 0
        self.bumped = False
        self.create_digest = self.sent_create = None
        self.digest = self.sent_digest = None
        self.create_refs = frozenset()
        self.refs = frozenset()
        self.parts = None
        self.in_table = False
        self.unsupported = self.told = ()

    def mark_sent(self):
        self.sent_generation = self.generation
        self.sent_create = self.create_digest
        self.sent_digest = self.digest
        self.bumped = False
        self.in_table = True
        self.parts = None

    def take_news(self):
        """What the user has not been told: IPython's names move on, from `_` to `__`, to `_3`."""
        told, self.told = self.told, [(item["type"], item["reason"]) for item in self.unsupported]
        return [
            item
            for item in self.unsupported
            if (item["type"], item["reason"]) not in told or not is_cached_output(item["path"])
        ]

    @property
    def kind_object(self):
        return kinds.by_name(self.kind)


class Token:
    """Says which pickle of which node an inlined object went into, and whether that still counts."""

    __slots__ = ("node", "valid")

    def __init__(self, node):
        self.node = node
        self.valid = True
