"""Options of libraries that people set at the top of a notebook."""

import decimal
import importlib
import sys

from .root import ValueRoot


class NumpyOptions(ValueRoot):
    prefix = "x:numpy.options"
    label = "numpy options"
    deferred = True

    def read(self):
        numpy = sys.modules.get("numpy")
        if numpy is None or not hasattr(numpy, "get_printoptions"):
            return None
        options = dict(numpy.get_printoptions())
        options.pop("override_repr", None)
        formatter = options.pop("formatter", None)
        return options if formatter is None else {**options, "formatter": formatter}, numpy.geterr()

    def set(self, value):
        if value is not None:
            numpy = importlib.import_module("numpy")
            numpy.set_printoptions(**value[0])
            numpy.seterr(**value[1])


class PandasOptions(ValueRoot):
    """What differs from the defaults that pandas itself registers."""

    prefix = "x:pandas.options"
    label = "pandas options"

    def _config(self):
        module = sys.modules.get("pandas._config.config")
        return module if module is not None and "pandas" in sys.modules else None

    def read(self):
        config = self._config()
        if config is None:
            return {}
        changed = {}
        for name, option in list(config._registered_options.items()):
            value = config._global_config
            for part in name.split("."):
                value = value[part]
            if value is not option.defval and value != option.defval:
                changed[name] = value
        return changed

    def set(self, value):
        if not value and self._config() is None:
            return
        pandas = importlib.import_module("pandas")
        for name in self.read().keys() - value.keys():
            pandas.reset_option(name)
        for name, setting in value.items():
            pandas.set_option(name, setting)


class MatplotlibOptions(ValueRoot):
    """rcParams that differ from matplotlib's defaults; the backend is the interpreter's own."""

    prefix = "x:matplotlib"
    label = "matplotlib.rcParams"

    def read(self):
        matplotlib = sys.modules.get("matplotlib")
        if matplotlib is None or not hasattr(matplotlib, "rcParamsDefault"):
            return {}
        default = matplotlib.rcParamsDefault
        return {
            name: value
            for name, value in dict.items(matplotlib.rcParams)
            if not name.startswith("backend") and value != dict.get(default, name)
        }

    def set(self, value):
        if not value and "matplotlib" not in sys.modules:
            return
        matplotlib = importlib.import_module("matplotlib")
        for name in self.read().keys() - value.keys():
            dict.__setitem__(matplotlib.rcParams, name, matplotlib.rcParamsDefault[name])
        for name, setting in value.items():
            dict.__setitem__(matplotlib.rcParams, name, setting)


class TorchOptions(ValueRoot):
    prefix = "x:torch.options"
    label = "torch options"

    def read(self):
        torch = sys.modules.get("torch")
        if torch is None or not hasattr(torch, "get_default_dtype"):
            return None
        return (
            str(torch.get_default_dtype()).removeprefix("torch."),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        )

    def set(self, value):
        if value is not None:
            torch = importlib.import_module("torch")
            torch.set_default_dtype(getattr(torch, value[0]))
            torch.set_grad_enabled(value[1])
            torch.use_deterministic_algorithms(value[2])


class DecimalContext(ValueRoot):
    prefix = "x:decimal"
    label = "decimal context"
    deferred = True

    def read(self):
        context = decimal.getcontext()
        traps = tuple(sorted(s.__name__ for s, on in context.traps.items() if on))
        limits = (context.Emin, context.Emax, context.capitals, context.clamp)
        return (context.prec, context.rounding, *limits, traps)

    def set(self, value):
        prec, rounding, lowest, highest, capitals, clamp, traps = value
        decimal.setcontext(
            decimal.Context(
                prec, rounding, lowest, highest, capitals, clamp, [], [getattr(decimal, t) for t in traps]
            )
        )
