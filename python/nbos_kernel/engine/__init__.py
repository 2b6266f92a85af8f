"""What a cell changed, and how another interpreter repeats it (docs/reference/state-format.md)."""

from .core import Engine

__all__ = ["Engine"]
