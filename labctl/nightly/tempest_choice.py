"""Selection of Tempest's tests."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Set(StrEnum):
    """A named set of tests: smoke tests of each API, the API suites, or scenarios across services."""

    SMOKE = "smoke"
    API = "api"
    SCENARIO = "scenario"

    @property
    def words(self) -> list[str]:
        """The arguments of ``tempest run``."""
        return ["--smoke"] if self is Set.SMOKE else ["--regex", rf"^tempest\.{self}\."]

    @property
    def time(self) -> str:
        """Timeout for all its tests, on a small and busy machine."""
        return "2 h" if self is Set.SMOKE else "5 h"


@dataclass(frozen=True)
class Chosen:
    """Selected tests: a set, those that match an expression, or those listed in a file, one per line."""

    set: Set = Set.SMOKE
    regex: str = ""
    file: Path | None = None

    @property
    def words(self) -> list[str]:
        """The arguments of ``tempest run``."""
        if self.file is not None:
            return ["--load-list", str(self.file.resolve())]
        return ["--regex", self.regex] if self.regex else self.set.words
