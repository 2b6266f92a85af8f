"""Arrays: who owns the memory has the bytes, everybody else is (owner, offset, shape, strides, dtype).

numpy is imported only when user code has imported it (or a delta needs it).
"""

from pickle import PickleBuffer

from . import kinds

OWNED, VIEW = 0, 1


class ArrayKind(kinds.Kind):
    name = "ndarray"
    order = 0

    def split(self, obj, walk):
        dtype = _dtype_form(obj.dtype)
        owner, address = _owner_of(obj, walk)
        if owner is None:
            return self._split_owned(obj, dtype)
        offset = obj.__array_interface__["data"][0] - address
        create = (VIEW, owner, offset, obj.shape, obj.strides, dtype, obj.flags.writeable)
        return create, None

    def _split_owned(self, obj, dtype):
        fortran = obj.flags.f_contiguous and not obj.flags.c_contiguous
        if not fortran and not obj.flags.c_contiguous:
            obj = obj.copy()
        create = (OWNED, dtype, obj.shape if fortran else (obj.size,), fortran)
        if obj.dtype.hasobject:
            payload = obj.reshape(-1, order="F" if fortran else "C").tolist()
        else:
            payload = PickleBuffer(_bytes_of(obj))
        return create, (obj.shape, obj.flags.writeable, payload)

    def make(self, create):
        import numpy

        if create[0] == VIEW:
            return _make_view(*create[1:])
        _, dtype, shape, fortran = create
        return numpy.zeros(shape, numpy.dtype(dtype), "F" if fortran else "C")

    def fill(self, obj, state, fresh):
        shape, writeable, payload = state
        if obj.shape != shape:
            _set_shape(obj, shape)
        obj.flags.writeable = True
        if isinstance(payload, list):
            order = "C" if obj.flags.c_contiguous else "F"
            flat = obj.reshape(-1, order=order)
            for index, item in enumerate(payload):
                flat[index] = item
        elif obj.nbytes:
            import numpy

            _bytes_of(obj)[...] = numpy.frombuffer(payload, numpy.uint8)
        obj.flags.writeable = writeable


def _set_shape(obj, shape):
    """In place, without moving memory; quietly, since newer numpy would rather have a new array."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        obj.shape = shape


def _order_of(obj):
    return "C" if obj.flags.c_contiguous else "F"


def _dtype_form(dtype):
    simple = dtype.names is None and dtype.subdtype is None and not dtype.metadata
    return dtype.str if simple and dtype.kind in "biufcmMSUO" else dtype


def _bytes_of(array):
    """The memory of a contiguous array as one row of bytes (a view); a copy of any other."""
    import numpy

    if array.flags.c_contiguous:
        return array.reshape(-1).view(numpy.uint8)
    if array.flags.f_contiguous:
        return array.T.reshape(-1).view(numpy.uint8)
    return numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8)


def _owner_of(array, walk):
    """(object that owns the memory, its address), or (None, 0) when the array does."""
    import numpy

    base = _base_of(array)
    while isinstance(base, numpy.ndarray) and _base_of(base) is not None:
        base = _base_of(base)
    if base is None:
        return walk.memory_alias(array, array.__array_interface__["data"][0], array.nbytes)
    if type(base) is numpy.ndarray:
        walk.node_of(base)
        return base, base.__array_interface__["data"][0]
    if isinstance(base, memoryview):
        base = base.obj
        if type(base) is numpy.ndarray:
            walk.node_of(base)
            return base, base.__array_interface__["data"][0]
    if type(base).__module__.startswith("torch") and hasattr(base, "untyped_storage"):
        storage = base.untyped_storage()
        return storage, storage.data_ptr()
    if type(base) in (bytes, bytearray):
        if type(base) is bytearray:
            walk.node_of(base)
        return base, numpy.frombuffer(base, numpy.uint8).__array_interface__["data"][0] if base else 0
    owner = f"{type(base).__module__}.{type(base).__qualname__}"
    walk.note(array, f"its memory belongs to a {owner}; a copy is carried, no longer shared")
    return None, 0


def _base_of(array):
    """Sees through the object that numpy's stride tricks put between a view and its base."""
    base = array.base
    if type(base).__name__ == "DummyArray" and type(base).__module__.startswith("numpy"):
        return base.base
    return base


def _make_view(owner, offset, shape, strides, dtype, writeable):
    import numpy

    dtype = numpy.dtype(dtype)
    if dtype.hasobject:
        flat = owner.reshape(-1, order=_order_of(owner))
        start = flat[offset // dtype.itemsize :]
        view = numpy.lib.stride_tricks.as_strided(start, shape, strides)
    else:
        view = numpy.ndarray(shape, dtype, _buffer_of(owner), offset, strides)
    if not writeable:
        view.flags.writeable = False
    return view


def _buffer_of(owner):
    import numpy

    if isinstance(owner, numpy.ndarray):
        return _bytes_of(owner)
    if isinstance(owner, (bytes, bytearray)):
        return owner
    import torch

    return torch.empty(0, dtype=torch.uint8).set_(owner).numpy()


_kind = ArrayKind()


def _find(t, obj):
    if t.__module__ == "numpy" and t.__name__ == "ndarray":
        return _kind
    if t.__module__.startswith("numpy") and t.__name__ == "memmap":
        raise TypeError("the file that it maps belongs to one host")
    return None


kinds.register(_kind, finder=_find)
