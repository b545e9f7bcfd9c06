"""What a diagnosis is made of: rows of the troubleshooting tables, and findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from labctl.operations.node import Copy, Operation
from labctl.operations.openstack import ApiOperation


class Level(IntEnum):
    """What everything above depends on, lowest first."""

    MACHINE = 0
    NETWORK = 1
    TIME = 2
    DISK = 3
    PACKAGES = 4
    FILES = 5
    DATABASE = 6
    MESSAGING = 7
    CACHE = 8
    SCHEMA = 9
    IDENTITY = 10
    CATALOG = 11
    SERVICE = 12
    API = 13
    AGENT = 14
    GUEST = 15
    LOG = 16  # a hint, never a proof

    def __str__(self) -> str:
        return self.name.lower()


#: Levels on which every service stands; what is wrong there explains the failures of all of them.
SHARED = (Level.NETWORK, Level.TIME, Level.DATABASE, Level.MESSAGING, Level.CACHE, Level.IDENTITY)
#: Levels of one machine: they explain what fails on it and in the APIs.
LOCAL = (Level.MACHINE, Level.DISK)


@dataclass(frozen=True)
class Row:
    """One row of the troubleshooting tables: what is wrong, and why that usually is.

    ``of`` are the rows of which a log line of this row is a hint.
    """

    id: str
    title: str
    cause: str
    source: str
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mend:
    """Operations that mend a finding without losing data, and the units that must be started again afterwards."""

    node: str = ""
    operations: tuple[Operation, ...] = ()
    restart: tuple[str, ...] = ()
    api: tuple[ApiOperation, ...] = ()
    copies: tuple[Copy, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    ``where`` is a node or ``api``; ``service`` is the project it belongs to, or the infrastructure's part;
    ``found`` is what was seen; ``fix`` is a command for a person.
    """

    row: Row
    level: Level
    where: str
    service: str
    found: str
    fix: str
    mend: Mend | None = field(default=None, compare=False, repr=False)

    def explains(self, other: Finding) -> bool:
        """True when the other finding is likely a consequence of this one."""
        if other.level == self.level and self.level in SHARED:  # its unit, then what that unit serves
            return (self.row, self.where, self.service) == (other.row, other.where, other.service)
        if other.level <= self.level or other.row.id == "L6":  # a bug of labctl's own hides behind nothing
            return False
        if self.row.id in other.row.of:
            return True
        if self.level in LOCAL:
            return other.where in (self.where, "api")
        return self.level in SHARED or self.service == other.service


@dataclass(frozen=True)
class Diagnosis:
    """The root causes, the findings they explain, and hints of the logs that none of them explains."""

    causes: tuple[Finding, ...]
    consequences: tuple[Finding, ...] = ()
    hints: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, findings: list[Finding]) -> Diagnosis:
        """Sort findings into causes, in the order of their levels, consequences and hints."""
        # of one level, what can be mended comes first: a unit before what that unit serves
        ordered = sorted(findings, key=lambda finding: (finding.level, finding.mend is None))
        first = [f for n, f in enumerate(ordered) if not any(earlier.explains(f) for earlier in ordered[:n])]
        causes, hints = (tuple(f for f in first if (f.level is Level.LOG) is log) for log in (False, True))
        return cls(causes, tuple(f for f in ordered if f not in first), hints)

    def lines(self) -> list[str]:
        """The causes and hints for a person, with the next commands, and how many findings they explain."""
        lines: list[str] = []
        for cause in (*self.causes, *self.hints):
            lines += [
                f"{cause.row.id}  {cause.row.title} ({cause.where}, {cause.service})",
                f"    {cause.found}",
                f"    {'cause' if cause in self.causes else 'perhaps'}: {cause.row.cause}",
                f"    next:  {cause.fix}",
            ]
        if self.consequences:
            lines.append(f"{len(self.consequences)} more findings are likely their consequences")
        return lines
