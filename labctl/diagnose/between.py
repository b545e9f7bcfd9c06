"""What nodes must have in common: the time, and files that one makes and others have a copy of, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.diagnose.model import Finding, Level, Mend
from labctl.diagnose.rows import ROWS
from labctl.engine.converge import Engine
from labctl.host.threads import on_each
from labctl.operations.node import Copy
from labctl.services import SERVICES
from labctl.services.infra import time_server

#: Rows of a copy that is missing, and of one that differs, by service.
_COPIES = {"swift": ("B54", "A35")}
#: Seconds by which clocks may differ, beside the time that asking takes.
APART = 3


def clocks(engine: Engine) -> list[Finding]:
    """Clocks that differ from the time server's; containers have the one of their host."""
    lab = engine.lab
    server = time_server(lab.spec).name
    nodes = [node for node in lab.spec.nodes if engine.reaches(node)]
    if not lab.spec.own_kernel or server not in nodes:
        return []
    told = dict(zip(nodes, on_each(engine.clock, nodes), strict=True))
    return [finding for node in nodes for finding in _apart(engine, node, told[node], told[server])]


def _apart(engine: Engine, node: str, here: tuple[float, float], server: tuple[float, float]) -> Iterator[Finding]:
    lab = engine.lab
    seconds = here[0] - server[0]
    if not abs(seconds) > APART + here[1] + server[1]:  # also where one gave no time
        return
    unit = lab.context.base.unit("chrony")
    which = "ahead of" if seconds > 0 else "behind"
    says = f"the clock is {abs(seconds):.0f} s {which} that of {time_server(lab.spec).name}"
    fix = f"labctl ssh {lab.name} {node} -- systemctl restart {unit}"  # it steps at its first look
    yield Finding(ROWS["B1"], Level.TIME, node, "chrony", says, fix, Mend(node, restart=(unit,)))


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
