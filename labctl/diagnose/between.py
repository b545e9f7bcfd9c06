"""What nodes must have in common: files that one makes and others have a copy of, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.diagnose.model import Finding, Level, Mend
from labctl.diagnose.rows import ROWS
from labctl.engine.converge import Engine
from labctl.operations.node import Copy
from labctl.services import SERVICES

#: Rows of a copy that is missing, and of one that differs, by service.
_COPIES = {"swift": ("B54", "A35")}


def copies(engine: Engine, finished: Iterable[str]) -> list[Finding]:
    """Copies that are missing or differ; their source, where it does not have them, has a finding of its own."""
    lab = engine.lab
    here = [service for service in SERVICES if lab.spec.has(*service.components)]
    owners = {copy: service.name for service in here for copy in service.copies(lab.context)}
    made = [copy for stage in lab.plan.stages if stage.name in finished for copy in stage.copies]
    return [finding for copy in made for finding in _stale(engine, copy, owners.get(copy, "node"))]


def _stale(engine: Engine, copy: Copy, service: str) -> Iterator[Finding]:
    lab = engine.lab
    wanted = engine.sums(copy, copy.source) if engine.reaches(copy.source) else {}
    if wanted.keys() < set(copy.paths):
        return
    for target in filter(engine.reaches, copy.targets):
        there = engine.sums(copy, target)
        wrong = [path for path in copy.paths if there.get(path) != wanted[path]]
        if not wrong:
            continue
        row = _COPIES.get(service, ("L4", "L4"))[all(path in there for path in wrong)]
        missing, differs = f"was not copied from {copy.source}", f"differs from that of {copy.source}"
        says = "; ".join(f"{path} {differs if path in there else missing}" for path in wrong)
        mend = Mend(target, copies=(Copy(copy.paths, copy.source, (target,), copy.origin),))
        fix = f"labctl diagnose {lab.name} --fix"
        yield Finding(ROWS[row], Level.FILES, target, service, says, fix, mend)
