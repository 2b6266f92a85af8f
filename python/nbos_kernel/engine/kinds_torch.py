"""Tensors: one storage node for the bytes, and for each tensor where it looks into its storage.

torch is imported only when user code has imported it (or a delta needs it). CPU only; a tensor on a
device, sparse or quantized, goes the way torch pickles it (part 4 of the project moves devices).
"""

from pickle import PickleBuffer

from . import kinds

OWNED, ALIAS = 0, 1


class StorageKind(kinds.Kind):
    name = "storage"
    order = 0

    def split(self, obj, walk):
        array, address = walk.memory_alias(obj, obj.data_ptr(), obj.nbytes())
        if array is not None:
            return (ALIAS, array, obj.data_ptr() - address, obj.nbytes()), None
        payload = PickleBuffer(_bytes_of(obj)) if obj.nbytes() else b""
        return (OWNED, obj.nbytes()), (payload,)

    def make(self, create):
        import torch

        if create[0] == ALIAS:
            from .kinds_numpy import _bytes_of as array_bytes

            _, array, offset, size = create
            return torch.from_numpy(array_bytes(array)[offset : offset + size]).untyped_storage()
        return torch.UntypedStorage(create[1])

    def fill(self, obj, state, fresh):
        import torch

        if obj.nbytes():
            source = torch.frombuffer(bytearray(state[0]), dtype=torch.uint8)
            torch.empty(0, dtype=torch.uint8).set_(obj).copy_(source)


def _bytes_of(storage):
    import torch

    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy()


class TensorKind(kinds.Kind):
    name = "tensor"
    order = 1

    def split(self, obj, walk):
        import torch

        if obj.grad_fn is not None:
            walk.note(obj, "its autograd graph is not carried; the value is, detached")
        leaf = obj.grad_fn is None
        data = obj.detach()
        attributes = {
            k: v for k, v in vars(obj).items() if isinstance(k, str)
        } if hasattr(obj, "__dict__") else {}
        state = (
            data.untyped_storage(),
            data.storage_offset(),
            tuple(data.size()),
            tuple(data.stride()),
            str(data.dtype).removeprefix("torch."),
            bool(obj.requires_grad and leaf),
            obj.grad if leaf else None,
            attributes,
            obj._backward_hooks if leaf else None,
        )
        cls = type(obj)
        return ("Tensor" if cls is torch.Tensor else cls), state

    def make(self, create):
        import torch

        empty = torch.empty(0)
        if create == "Tensor":
            return empty
        if issubclass(create, torch.nn.Parameter):
            return create(empty, requires_grad=False)
        return torch.Tensor._make_subclass(create, empty)

    def fill(self, obj, state, fresh):
        import torch

        storage, offset, size, stride, dtype, requires_grad, grad, attributes, hooks = state
        with torch.no_grad():
            data = torch.empty(0, dtype=getattr(torch, dtype)).set_(storage, offset, size, stride)
            if obj.requires_grad and not data.is_floating_point() and not data.is_complex():
                obj.requires_grad_(False)
            obj.grad = None
            obj.data = data
        obj.requires_grad_(requires_grad)
        obj.grad = grad
        obj._backward_hooks = hooks
        vars(obj).clear()
        vars(obj).update(attributes)


class ReducedTensorKind(kinds.ReduceKind):
    name = "tensor by pickle"


_storage, _tensor, _reduced = StorageKind(), TensorKind(), ReducedTensorKind()


def _find(t, obj):
    if not any(b.__module__ == "torch" and b.__name__ == "Tensor" for b in t.__mro__):
        if t.__name__ == "UntypedStorage" and t.__module__.startswith("torch"):
            return _storage
        return None
    import torch

    if obj.layout is not torch.strided or obj.device.type != "cpu" or obj.is_quantized:
        return _reduced
    if obj.is_conj() or obj.is_neg():
        return _reduced
    return _tensor


kinds.register(_storage)
kinds.register(_reduced)
kinds.register(_tensor, finder=_find)
