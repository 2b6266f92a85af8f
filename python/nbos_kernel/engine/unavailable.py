"""The stand-in for an object that could not be carried to this replica.

Using it raises a clear error that names the variable, the path and the reason; looking at it (repr,
type, identity, truth of `is`) does not, so that a namespace that holds one stays usable.
"""


class NotReplicatedError(RuntimeError):
    """An object exists only on the replica that made it."""


def _complain(self, *_args, **_kwargs):
    path, kind, reason = _facts(self)
    raise NotReplicatedError(
        f"{path} ({kind}) was not carried to this replica: {reason}. Run the cell that made it again."
    )


def _facts(stand_in):
    return object.__getattribute__(stand_in, "facts")


class Unavailable:
    __slots__ = ("facts", "__weakref__")

    def __init__(self, path, kind, reason):
        object.__setattr__(self, "facts", (path, kind, reason))

    def __repr__(self):
        path, kind, reason = _facts(self)
        return f"<not replicated: {path} ({kind}): {reason}>"

    def __reduce_ex__(self, _protocol):
        return Unavailable, _facts(self)

    __getattr__ = __setattr__ = __delattr__ = _complain
    __call__ = __iter__ = __next__ = __len__ = __contains__ = __bool__ = _complain
    __getitem__ = __setitem__ = __delitem__ = __enter__ = __exit__ = __await__ = _complain
    __int__ = __float__ = __index__ = __add__ = __radd__ = __sub__ = __mul__ = __lt__ = _complain


def facts_of(stand_in):
    """(path, type, reason) of an Unavailable."""
    return _facts(stand_in)
