"""Which of Tempest's tests are run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Set(StrEnum):
    """Tests that belong together: a few of each API, the APIs' own suites, or stories through several services."""

    SMOKE = "smoke"
    API = "api"
    SCENARIO = "scenario"

    @property
    def words(self) -> list[str]:
        """The arguments of ``tempest run``."""
        return ["--smoke"] if self is Set.SMOKE else ["--regex", rf"^tempest\.{self}\."]

    @property
    def time(self) -> str:
        """How long its tests may take together, on a small machine with other work."""
        return "2 h" if self is Set.SMOKE else "5 h"


@dataclass(frozen=True)
class Chosen:
    """Which tests: a set, those that fit an expression, or those that a file lists, one a line."""

    set: Set = Set.SMOKE
    regex: str = ""
    file: Path | None = None

    @property
    def words(self) -> list[str]:
        """The arguments of ``tempest run``."""
        if self.file is not None:
            return ["--load-list", str(self.file.resolve())]
        return ["--regex", self.regex] if self.regex else self.set.words
