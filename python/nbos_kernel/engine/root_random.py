"""Random states of the standard library, numpy and torch. Until a cell draws, each replica has its own."""

import importlib
import random
import sys

from .root import ValueRoot


class PythonRandom(ValueRoot):
    prefix = "x:random"
    label = "random"

    def read(self):
        return random.getstate()

    def set(self, value):
        random.setstate(value)


class NumpyRandom(ValueRoot):
    prefix = "x:numpy"
    label = "numpy.random"

    def read(self):
        module = sys.modules.get("numpy.random")
        if module is None or not hasattr(module, "get_state"):
            return None
        name, keys, *rest = module.get_state()
        return (name, keys.tobytes(), *rest)

    def set(self, value):
        if value is None:
            return
        numpy = importlib.import_module("numpy")
        name, keys, *rest = value
        numpy.random.set_state((name, numpy.frombuffer(keys, numpy.uint32), *rest))


class TorchRandom(ValueRoot):
    prefix = "x:torch"
    label = "torch random"

    def read(self):
        module = sys.modules.get("torch")
        if module is None or not hasattr(module, "get_rng_state"):
            return None
        return module.get_rng_state().numpy().tobytes()

    def set(self, value):
        if value is None:
            return
        torch = importlib.import_module("torch")
        torch.set_rng_state(torch.frombuffer(bytearray(value), dtype=torch.uint8))
