"""Process state outside the namespace: IPython's own, random numbers, environment, patches.

Each root owns keys "x:NAME" (or a family of keys). A root that is not in the table is as in a fresh
interpreter that has been adopted.
"""

from . import kinds, table_format as fmt
from .root_ipython import CellSources, History, IPythonState, ShellSettings
from .root_modules import ImportedModules, Patches
from .root_process import (
    Background,
    Directory,
    Environment,
    Hooks,
    LastError,
    LoggingLevels,
    RecursionLimit,
    SearchPath,
    WarningFilters,
)
from .root_random import NumpyRandom, PythonRandom, TorchRandom
from .root_options import DecimalContext, MatplotlibOptions, NumpyOptions, PandasOptions, TorchOptions


class Roots:
    """All of them, in the order in which they are applied."""

    def __init__(self, engine):
        self._engine = engine
        self._first = [RecursionLimit(), SearchPath(), Environment(), Directory(), ImportedModules(engine)]
        self._rest = [
            CellSources(engine),
            History(engine),
            IPythonState(engine),
            ShellSettings(engine),
            PythonRandom(),
            NumpyRandom(),
            TorchRandom(),
            LoggingLevels(),
            WarningFilters(),
            Hooks(),
            LastError(),
            NumpyOptions(),
            PandasOptions(),
            MatplotlibOptions(),
            TorchOptions(),
            DecimalContext(),
            Patches(engine),
            Background(engine),
        ]
        self._all = self._first + self._rest
        self.notices = []  # what could not be repeated here; shown with the next cell

    def prepare(self):
        for root in self._all:
            root.prepare()

    def take_baseline(self):
        for root in self._all:
            root.take_baseline()

    def before_cell(self):
        for variable, value in kinds.pending_context.values():
            variable.set(value)  # here, since the context of an apply ends with it
        kinds.pending_context.clear()
        for root in self._all:
            root.before_cell()

    def begin(self, walk):
        """Before the namespace is walked."""
        from . import kinds_pandas
        import sys

        kinds_pandas.prepare(sys.modules)

    def walk(self, walk):
        for root in self._all:
            root.walk(walk)

    def read_again(self, walk):
        for root in self._all:
            root.read_again(walk)

    def resend(self, moved):
        for root in self._all:
            root.resend(moved)

    def emit(self, delta):
        unsupported = []
        for root in self._all:
            unsupported += root.emit(delta)
        for path, kind, reason in self.notices:
            unsupported.append({"path": path, "type": kind, "reason": reason})
        self.notices = []
        return unsupported

    def rebase(self, new):
        for root in self._all:
            root.rebase(new)

    def apply_first(self, operations, loader):
        self._apply(self._first, operations, loader)

    def apply(self, operations, loader):
        self._apply(self._rest, operations, loader)

    def _apply(self, roots, operations, loader):
        for root in roots:
            for key, value in operations:
                if root.prefix and key.startswith(root.prefix) and (key == root.prefix or root.family):
                    if value is None:
                        root.forget(key)
                        continue
                    try:
                        root.apply(key, loader.load(fmt.decode_value(value)[0]))
                    except fmt.FormatError:
                        raise
                    except Exception as error:
                        # Process state is best effort on this host; the objects are not touched.
                        self.notices.append((root.label, "process state", f"not repeated here: {error}"))

    def reset(self):
        for root in self._all:
            root.reset()
