"""pandas: blocks that share memory must also share what makes copy-on-write notice it."""

from . import kinds, rebuild, reduce


class BlockReferencesKind(kinds.Kind):
    """pandas' list of who looks at the same values. Blocks enter it by themselves when they are made."""

    name = "pandas references"

    def split(self, obj, walk):
        return (), None

    def make(self, create):
        from pandas._libs.internals import BlockValuesRefs

        return BlockValuesRefs()


def _block(obj, walk):
    return rebuild.pandas_block, (
        type(obj),
        obj.values,
        obj.mgr_locs.as_slice if obj.mgr_locs.is_slice_like else obj.mgr_locs.as_array,
        obj.ndim,
        obj.refs,
    )


def _single_manager(obj, walk):
    return rebuild.pandas_single_manager, (type(obj), obj.blocks[0], obj.axes[0])


_references = BlockReferencesKind()
kinds.register(
    _references,
    finder=lambda t, obj: _references if t.__name__ == "BlockValuesRefs" else None,
)


def prepare(modules):
    """Registers the reducers when pandas has been imported; cheap when it has not."""
    blocks = modules.get("pandas.core.internals.blocks")
    if blocks is None or not hasattr(blocks, "NumpyBlock"):
        return
    managers = modules.get("pandas.core.internals.managers")
    reduce.register(managers.SingleBlockManager, _single_manager)
    for name in ("NumpyBlock", "ExtensionBlock", "DatetimeLikeBlock"):
        cls = getattr(blocks, name, None)
        if cls is not None:
            reduce.register(cls, _block)
