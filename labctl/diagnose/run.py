"""Diagnose a lab: one program for each node, one visit to the APIs, and the causes sorted out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from secrets import token_hex

from keystoneauth1 import exceptions

from labctl.diagnose import apis, between, expected, patterns, probes
from labctl.diagnose.breakages import BY_NAME
from labctl.diagnose.expected import Expected, Owners
from labctl.diagnose.model import Diagnosis, Finding, Level, Mend
from labctl.diagnose.patterns import MENDED, Search, Window
from labctl.diagnose.probes import Probe
from labctl.diagnose.rows import ROWS
from labctl.engine.cloud import ask
from labctl.engine.converge import ALWAYS, Engine, no_guest, tell
from labctl.errors import BrokenLabError, LabError
from labctl.host import files
from labctl.host.threads import on_each
from labctl.lab import logs
from labctl.lab.fault import Fault
from labctl.operations.node import RELOAD, Command, Item, Parallel
from labctl.operations.runner import Outcome, run_stage
from labctl.progress import step
from labctl.records.lab import Lab
from labctl.secret import redact

#: Seconds for all tests of one node.
NODE = 120
#: Seconds for what was mended to report itself well, and for what is gone to count as down: a minute, for nova.
SETTLE = 120
#: The node's directory for the tests: in memory, as its disk may be full; one for each diagnosis, as failed tests
#: may be explained side by side.
DIRECTORY = "/run/labctl-{}"
#: How an attempt to mend begins that did not.
FAILED = "not done: "

Test = Expected | Probe | Search


def diagnose(lab: Lab, only: str = "", window: Window | None = None) -> Diagnosis:
    """Look for everything that differs from a lab's plan; changes nothing.

    :param only: only findings of this service, and what it stands on.
    :param window: which lines of the logs are hints; without, none are looked for.
    """
    lost = [_lost(lab, node) for node in lab.spec.nodes if not lab.driver.machine(lab, node).running]
    finished = {record.name for record in lab.journal().stages}
    engine = Engine(lab, no_guest)
    found = list(lost)
    try:
        with step("lab", f"diagnose {lab.name}"):
            for node, why in engine.connect_some(20):
                if all(finding.where != node for finding in lost):
                    text = f"{node} does not answer: {why.message}"
                    found.append(Finding(ROWS["M2"], Level.MACHINE, node, "node", text, f"labctl repair {lab.name}"))
            there = [node for node in lab.spec.nodes if engine.reaches(node)]
            owners = expected.owners(lab.context)
            tests = {node: _tests(lab, node, finished, owners, window) for node in there}
            kept = {node: [t for t in tests[node] if _concerns(t.service, only)] for node in there}
            found += [f for part in on_each(lambda node: _node(engine, node, kept[node]), there) for f in part]
            found += between.clocks(engine)
            found += between.copies(engine, finished)
            found += _apis(lab, finished, found)
    finally:
        engine.close()
    found = [finding for finding in found if _concerns(finding.service, only)]
    return Diagnosis.of(patterns.counting(found, window) if window else found)


def _concerns(service: str, only: str) -> bool:
    return not only or service in (only, "node", *expected.PARTS, "keystone")


def _lost(lab: Lab, node: str) -> Finding:
    text = f"{node} is {lab.driver.machine(lab, node).state}"
    return Finding(ROWS["M1"], Level.MACHINE, node, "node", text, f"labctl repair {lab.name}")


def _tests(lab: Lab, node: str, finished: set[str], owners: Owners, window: Window | None) -> list[Test]:
    """All tests of a node."""
    made: list[Test] = [*expected.of_node(lab.plan, node, finished, owners)]
    made += probes.of_node(lab.context, lab.spec.nodes[node], finished)
    if window and "infrastructure" in finished:
        made += patterns.of_node(lab.context, lab.spec.nodes[node], owners, window)
    return made


def _node(engine: Engine, node: str, tests: list[Test]) -> list[Finding]:
    """The findings of one node; tests that gave no result are one of them."""
    lab, secrets = engine.lab, engine.lab.secrets()
    operations = tuple(test.look if isinstance(test, Expected) else test for test in tests)
    if not operations:
        return []
    outcomes: list[Outcome] = []

    def seen(outcome: Outcome) -> None:
        outcomes.append(outcome)
        tell(outcome.node, outcome.title, outcome.seconds)

    items: tuple[Item, ...] = (Parallel(operations),)
    place = DIRECTORY.format(token_hex(4))
    seconds = NODE * lab.driver.patience
    session = engine.session(node)
    try:
        why = run_stage(
            session, lab.name, node, "diagnose", items, secrets, seen, seconds, check=False, directory=place
        ).stderr
    except BrokenLabError as error:
        return [Finding(ROWS["M2"], Level.MACHINE, node, "node", error.message, f"labctl repair {lab.name}")]
    except LabError as error:
        why = error.message
    found = [f for o in outcomes if o.state == "failed" for f in _judged(lab, node, tests[o.number], o.said)]
    ended = {outcome.number for outcome in outcomes}
    if late := [operation.title for number, operation in enumerate(operations) if number not in ended]:
        names = ", ".join(f"'{title}'" for title in late[:3])
        more = f" and {len(late) - 3} more" if len(late) > 3 else ""
        text = redact(f"{names}{more} gave no result {why.strip()[-300:]}".strip(), secrets)
        found.append(Finding(ROWS["L6"], Level.GUEST, node, "node", text, f"labctl ssh {lab.name} {node}"))
    return found


def _judged(lab: Lab, node: str, test: Test, said: tuple[str, ...]) -> Iterator[Finding]:
    """What a failed test means; an error in saying so is a finding of its own."""
    try:
        match test:
            case Expected():
                yield from expected.found(lab, node, test, said, lab.secrets())
            case Search():
                yield from patterns.found(lab, node, test, said, logs.redactor(lab))
            case Probe():
                yield _of_probe(lab, node, test, said)
    except Exception as error:  # a bug in one test must not cost the others
        title = test.look.title if isinstance(test, Expected) else test.title
        text = redact(f"'{title}': {type(error).__name__}: {error}; it said: {'; '.join(said)[-300:]}", lab.secrets())
        yield Finding(ROWS["L6"], Level.GUEST, node, "node", text, f"labctl ssh {lab.name} {node}")


def _of_probe(lab: Lab, node: str, probe: Probe, said: tuple[str, ...]) -> Finding:
    text = "; ".join(said) or probe.title
    fix = f"labctl ssh {lab.name} {node} -- {probe.words}" if probe.fix else f"labctl diagnose {lab.name} --fix"
    mend = Mend(node, probe.mend) if probe.mend else None
    return Finding(ROWS[probe.row], probe.level, node, probe.service, text, fix, mend)


def _apis(lab: Lab, finished: set[str], before: Sequence[Finding]) -> list[Finding]:
    """What the APIs say, once their part of the plan is finished; of what is only checked, once all is made."""
    stages = lab.plan.stages
    checked = ALWAYS if all(stage.name in finished for stage in stages if stage.name not in ALWAYS) else ()
    operations = tuple(o for stage in stages if stage.name in {*finished, *checked} for o in stage.api)
    if not operations:
        return []
    try:
        return ask(lab, lab.secrets(), lambda cloud: apis.ask(lab, cloud, operations, before))
    except (exceptions.ClientException, LabError, OSError) as error:
        text = f"keystone does not answer: {error}"
        return [Finding(ROWS["A8"], Level.IDENTITY, "api", "keystone", text, f"labctl status --check {lab.name}")]


def mended(
    lab: Lab, only: str = "", seconds: float = SETTLE, window: Window | None = None, begun: bool = False
) -> tuple[list[str], Diagnosis]:
    """Diagnose, apply the safe fixes, and look again until nothing is left, or nothing changed for so many seconds.

    A fix may uncover the next cause. Daemons that were just started need a moment to report.

    :param window: of the first look; what the logs said before a fix says nothing after it.
    :param begun: something was mended before.
    :return: what was done, and what was tried (``FAILED``), and what is left.
    """
    done: list[str] = []
    found = diagnose(lab, only, window)
    patience = seconds * lab.driver.patience
    deadline = time.monotonic() + patience
    tried: set[Finding] = set()
    while found.causes and (begun or any(cause.mend for cause in found.causes)) and time.monotonic() < deadline:
        new = tuple(cause for cause in found.causes if cause.mend and cause not in tried)
        if new:
            did = _mend(lab, new)
            done += did
            if all(line.startswith(FAILED) for line in did):
                return done, diagnose(lab, only)
            files.write_atomic(lab.directory / MENDED, "")
            tried |= set(new)
            begun = True
            deadline = time.monotonic() + patience
        else:
            time.sleep(2)
        found = diagnose(lab, only)
    return done, found


def undo(lab: Lab, exercises: Iterable[Fault]) -> None:
    """Undo exercises: what has an undoing of its own, then everything that a diagnosis can mend.

    :raises BrokenLabError: something is still wrong.
    """
    begun = False
    for exercise in exercises:
        breakage = BY_NAME.get(exercise.target)
        if breakage and breakage.undo:
            begun = True
            with step(exercise.node, f"undo {breakage.name}"), lab.connect(exercise.node) as session:
                session.run(breakage.program(lab.spec, breakage.undo), timeout=NODE * lab.driver.patience)
    _, left = mended(lab, begun=begun)
    if left.causes:
        wrong = "\n".join(f"  {cause.where}: {cause.found}" for cause in left.causes)
        raise BrokenLabError(f"{lab.name}: still wrong:\n{wrong}", left.causes[0].fix)


def _mend(lab: Lab, causes: Iterable[Finding]) -> list[str]:
    """Apply the fixes of some findings, and restart what reads them.

    :return: what was done, and what was tried (``FAILED``); a finding whose fix failed stays.
    """
    done: list[str] = []
    asked = tuple(dict.fromkeys(o for cause in causes if cause.mend for o in cause.mend.api))
    engine = Engine(lab, no_guest)
    try:
        engine.connect()
        by_node: dict[str, list[Mend]] = {}
        for cause in causes:
            if cause.mend and cause.mend.node and cause.mend not in by_node.setdefault(cause.mend.node, []):
                by_node[cause.mend.node].append(cause.mend)
        for node, mends in by_node.items():
            operations = tuple(dict.fromkeys(o for m in mends for o in m.operations))
            units = tuple(dict.fromkeys(unit for m in mends for unit in m.restart))
            restarts = tuple(
                Command(f"restart {u}", f"systemctl reset-failed {u}; systemctl restart {u}") for u in units
            )
            items = (*operations, *((RELOAD,) if units else ()), *restarts)
            session = engine.session(node)
            try:
                with step(node, f"mend {len(mends)} findings"):
                    run_stage(session, lab.name, node, "mend", items, lab.secrets(), lambda outcome: None)
                done += [f"{node}: {item.title}" for item in (*operations, *restarts)]
            except LabError as error:
                done.append(f"{FAILED}{node}: {error.message}")
        copies = tuple(dict.fromkeys(copy for cause in causes if cause.mend for copy in cause.mend.copies))
        try:
            engine.copy(copies)
            done += [copy.title for copy in copies]
        except LabError as error:
            done.append(f"{FAILED}{error.message}")
        failed = dict(engine.ask(asked, lab.secrets()))
        done += [f"{FAILED}api: {error.message}" for error in failed.values()]
        done += [f"api: {operation.title}" for operation in asked if operation not in failed]
    finally:
        engine.close()
    return done
