"""Health check of a lab: its machines answer, its daemons run, its APIs respond.

The check covers what ``up`` has finished so far: the units and waits of the finished stages and, once every stage
is finished, the API calls of the stage ``verify``. So a half-built lab can be healthy.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from labctl.engine.converge import Engine, no_guest, tell
from labctl.errors import BrokenLabError, LabError
from labctl.host.threads import on_each
from labctl.operations.node import Item, Operation, Unit, Wait, quote
from labctl.operations.runner import Outcome, run_stage
from labctl.plan.planner import Plan
from labctl.progress import step
from labctl.records.lab import Lab

#: Seconds for machines that were just started to become healthy.
GATE = 300
#: Seconds for a lab that is already running.
GLANCE = 30
_SAID = re.compile(r"^\s*unit (\S+) is (\S+): (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Ailment:
    """A failed check: where (a node, or ``api``), what, and its last log or console line."""

    where: str
    what: str
    last: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: {self.last}"


@dataclass(frozen=True)
class Running:
    """All these units are active; with ``revive`` a failed unit is started once more.

    A machine's daemons may start before another machine's database and give up.
    """

    units: tuple[str, ...]
    seconds: float
    revive: bool = False

    @property
    def title(self) -> str:
        return f"{len(self.units)} units run"

    def shell(self) -> str:
        names = " ".join(quote(unit) for unit in self.units)
        revive = 'systemctl reset-failed $failed; systemctl start --no-block $failed; revived="$revived $failed "'
        return f"""until=$(($(date +%s) + {self.seconds:.0f})) revived=
while :; do
    bad=$(systemctl show -p Id -p ActiveState {names} | awk -F= '
        $1 == "Id" {{ id = $2 }}
        $1 == "ActiveState" {{ state = $2 }}
        id != "" && state != "" {{ if (state != "active") print id, state; id = state = "" }}' |
        while read -r unit state; do
            # idle, and started by the next one who connects to its socket
            [ "$state" = inactive ] && sockets=$(systemctl show -p TriggeredBy "$unit" | cut -d = -f 2) &&
                [ -n "$sockets" ] && systemctl is-active -q $sockets && continue
            echo "$unit $state"
        done)
    [ -n "$bad" ] || return 0
    failed=$(echo "$bad" | sed -n 's/ failed$//p' | tr '\\n' ' ')
    for unit in $failed; do case $revived in *" $unit "*) failed='' until=0 ;; esac; done
    [ -z "$failed" ] || {{ {revive if self.revive else "until=0"}; }}
    [ "$(date +%s)" -lt "$until" ] || break
    sleep 0.2
done
echo "$bad" | while read -r unit state; do
    echo "unit $unit is $state: $(journalctl -u "$unit" -n 1 -o cat --no-pager 2>/dev/null)"
done
return 1"""

    def guide(self) -> str:
        return f"systemctl is-active {' '.join(self.units)}"


def check(lab: Lab, seconds: float = GLANCE, *, revive: bool = False) -> list[Ailment]:
    """Check a lab until it is healthy or the time is up; return what is not healthy.

    :param revive: start failed units once more.
    """
    deadline = time.monotonic() + seconds * lab.driver.patience
    found = [_dead(lab, node) for node in lab.spec.nodes if not lab.driver.machine(lab, node).running]
    if found:
        return found
    engine = Engine(lab, no_guest)
    try:
        engine.connect(seconds)
    except LabError as error:
        return [Ailment("lab", "machines do not answer", error.message)]
    made = lab.plan
    try:
        return _on_nodes(engine, made, deadline, revive) or _on_apis(engine, made, deadline)
    finally:
        engine.close()


def gate(lab: Lab, seconds: float = GATE, *, revive: bool = True) -> None:
    """Wait until a lab whose machines were just started is healthy.

    :raises BrokenLabError: it is not healthy in time; lists each failed check with its last log line.
    """
    with step("lab", f"{lab.name} is healthy"):
        ailments = check(lab, seconds, revive=revive)
        if ailments:
            raise BrokenLabError(
                f"{lab.name} is not healthy:\n" + "\n".join(f"  {ailment}" for ailment in ailments),
                f"labctl repair {lab.name}; {lab.up()}",
            )


def _dead(lab: Lab, node: str) -> Ailment:
    machine, console = lab.driver.machine(lab, node), lab.driver.console(lab, node)
    lines = console.read_text(errors="replace").splitlines() if console.exists() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "its console is empty")
    return Ailment(node, "machine is not running" if machine.exists else "machine is missing", machine.detail or last)


def _of(made: Plan, stages: set[str], node: str) -> Iterable[Operation]:
    """A node's operations in some stages."""
    for stage in made.stages:
        if stage.name in stages:
            yield from stage.on(node)


def _finished(lab: Lab) -> set[str]:
    return {record.name for record in lab.journal().stages}


def _on_nodes(engine: Engine, made: Plan, deadline: float, revive: bool) -> list[Ailment]:
    lab, secrets = engine.lab, engine.lab.secrets()
    finished = _finished(lab)

    def seen(outcome: Outcome) -> None:
        tell(outcome.node, outcome.title, outcome.seconds)

    def look(node: str) -> list[Ailment]:
        operations = list(_of(made, finished, node))
        left = max(deadline - time.monotonic(), 1)
        units = tuple(dict.fromkeys(o.name for o in operations if isinstance(o, Unit)))
        items: list[Item] = [Running(units, left, revive)] if units else []
        items += [replace(o, seconds=min(o.seconds, round(left))) for o in operations if isinstance(o, Wait)]
        if not items:
            return []
        try:
            run_stage(engine.session(node), lab.name, node, "health", tuple(items), secrets, seen, left + 60)
        except LabError as error:
            said = [Ailment(node, f"{unit} is {state}", line) for unit, state, line in _SAID.findall(error.message)]
            return said or [Ailment(node, "not ready", error.message)]
        return []

    return [ailment for found in on_each(look, lab.spec.nodes) for ailment in found]


def _on_apis(engine: Engine, made: Plan, deadline: float) -> list[Ailment]:
    """The API calls of ``verify``, once every earlier stage is finished."""
    names = [stage.name for stage in made.stages]
    verify = next((stage for stage in made.stages if stage.name == "verify"), None)
    if verify is None or not set(names) - {"verify"} <= _finished(engine.lab):
        return []
    left = max(round(deadline - time.monotonic()), 1)
    waiting = [replace(cast(Any, o), seconds=min(o.seconds, left)) if hasattr(o, "seconds") else o for o in verify.api]
    failed = engine.ask(waiting, engine.lab.secrets())
    return [Ailment("api", operation.title, error.message) for operation, error in failed]
