"""A leftover, as ``labctl gc`` lists and removes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """A leftover: its kind, its name, its parts, and how to remove it.

    ``remove`` returns what could not be removed; ``size`` is in bytes on disk.
    """

    kind: str
    name: str
    parts: tuple[str, ...]
    size: int
    remove: Callable[[], list[str]] = field(compare=False, repr=False)
