"""Bring a lab up: machines first, then the plan's stages; each finished stage is journalled.

``up`` is idempotent: it runs from the first stage whose inputs changed or that did not finish; a healthy lab
is only checked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from keystoneauth1.exceptions import ClientException

from labctl.components import Component
from labctl.engine import sources
from labctl.engine.capacity import check_resources
from labctl.engine.cloud import Cloud, ask
from labctl.engine.stages import execute
from labctl.errors import LabError
from labctl.host import files
from labctl.host.ssh import Session
from labctl.host.threads import on_each, results, side_by_side
from labctl.images import store
from labctl.images.guest import GuestImage
from labctl.operations.node import Copy, Item, Record, flatten, quote
from labctl.operations.openstack import ApiOperation, GuestImageUpload
from labctl.operations.runner import Outcome, end_programs, run_stage
from labctl.plan.planner import Plan, Stage
from labctl.progress import note, step
from labctl.records import access
from labctl.records.journal import Journal, StageRecord
from labctl.records.lab import Lab
from labctl.secret import Secret, redact, reveal

#: Stages that check the lab as it is now: they run every time, whatever the journal says.
ALWAYS = ("verify",)
#: Operations shorter than this (seconds) get no line on the console.
WORTH_SAYING = 1.0
#: Seconds for a machine that must be restarted to shut down cleanly.
STOP = 30


def tell(where: str, title: str, seconds: float) -> None:
    """Report an operation and how long it took, unless it was too short."""
    if seconds >= WORTH_SAYING:
        note(where, f"{title} ({seconds:.1f} s)")


@dataclass
class Summary:
    """What one ``up`` did."""

    lab: str
    stages: list[StageRecord] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """Operations that changed something."""
        return sum(s.changed for s in self.stages)


def no_guest() -> GuestImage:
    """Guest image source of an engine that must not upload one.

    :raises LabError: always.
    """
    raise LabError("only labctl up uploads a guest image")


class Engine:
    """Executes a lab's plan through a driver."""

    def __init__(
        self,
        lab: Lab,
        guest: Callable[[], GuestImage],
        checkpoint: Callable[[str], object] | None = None,
    ) -> None:
        """:param checkpoint: called after each stage for which the spec requests a snapshot; restarts machines."""
        self.lab = lab
        self._guest = guest
        self._checkpoint = checkpoint
        self._sessions: dict[str, Session] = {}

    def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    # --- up ------------------------------------------------------------------------------------

    def up(self, until: str = "verify", plan: Plan | None = None) -> Summary:
        """Bring the lab up to the end of a stage.

        :param plan: what to do instead of the lab's own plan.
        :raises LabError: an operation failed; the stages before it stay finished.
        """
        summary = Summary(self.lab.name)
        journal = self.lab.journal()
        plan = plan or self.lab.plan
        secrets = self.lab.ensure_secrets(plan.secrets())
        self.lab.ensure_keys()
        if self.lab.spec.has(Component.KEYSTONE):
            access.write(self.lab, self.lab.context.auth_url, secrets)
        try:
            self._machines(journal, summary)
            if until != "machines":
                self._stages(plan, secrets, journal, summary, until)
        finally:
            self.close()
        return summary

    def _machines(self, journal: Journal, summary: Summary) -> None:
        """Create and start what is not running; every stage is then checked again."""
        began, cpu = time.monotonic(), self.lab.driver.cpu_seconds(self.lab)
        lab = self.lab
        names = list(lab.spec.nodes)
        for node in names:
            if why := lab.driver.lost(lab, node):
                note(node, f"is restarted: {why}")
                lab.driver.stop(lab, node, STOP)
        running = {n for n in names if lab.driver.machine(lab, n).running}
        if len(running) == len(names):
            self.connect()
            summary.skipped.append("machines")
            return
        check_resources(lab.spec, running, lab.directory)
        journal.stages.clear()  # before the first start, so that a killed labctl leaves no stale record
        lab.save_journal(journal)
        with step("lab", "machines"):
            with store.keeping():
                lab.record_image(lab.driver.image(lab))
            lab.driver.create_network(lab)

            def bring(node: str) -> None:
                lab.driver.create(lab, node)
                lab.driver.start(lab, node)

            on_each(bring, names)
            self.connect()
        record = StageRecord(
            "machines",
            "",
            time.time(),
            round(time.monotonic() - began, 3),
            round(lab.driver.cpu_seconds(lab) - cpu, 3),
            len(names) - len(running),
            len(running),
        )
        journal.stages.append(record)
        lab.save_journal(journal)
        summary.stages.append(record)

    def connect(self, seconds: float = 90) -> None:
        """Open a session to every node, or to none.

        :raises LabError: some nodes do not answer in time; names them.
        """
        failed = self._connect(seconds)
        if failed:
            self.close()
            results(list(failed.values()))

    def connect_some(self, seconds: float) -> list[tuple[str, LabError]]:
        """Open a session to every node that answers; return the others, with their errors."""
        answered = {node: future.exception() for node, future in self._connect(seconds).items()}
        for error in answered.values():
            if error is not None and not isinstance(error, LabError):
                raise error
        return [(node, error) for node, error in answered.items() if isinstance(error, LabError)]

    def _connect(self, seconds: float) -> dict[str, Future[Session]]:
        """Open a session to every node; return those that failed."""

        def connect(node: str) -> Session:
            return self.lab.driver.connect(self.lab, node, seconds)

        names = list(self.lab.spec.nodes)
        opened = dict(zip(names, side_by_side(connect, names), strict=True))
        self._sessions = {node: future.result() for node, future in opened.items() if future.exception() is None}
        return {node: future for node, future in opened.items() if future.exception() is not None}

    def reaches(self, node: str) -> bool:
        """Whether a session to a node is open."""
        return node in self._sessions

    def session(self, node: str) -> Session:
        """The open session to a node."""
        return self._sessions[node]

    def _stages(
        self, plan: Plan, secrets: Mapping[str, Secret], journal: Journal, summary: Summary, until: str
    ) -> None:
        """Run what is due: a stage that is not as the journal says, and all after it."""
        names = [s.name for s in plan.stages]
        last = names.index(until) if until in names else len(names) - 1
        due: list[Stage] = []
        digests: dict[str, str] = {}
        for stage in plan.stages[: last + 1]:
            digest = digests[stage.name] = stage.digest(lambda text: reveal(text, secrets))
            known = journal.record(stage.name)
            if not due and known and known.digest == digest and stage.name not in ALWAYS:
                summary.skipped.append(stage.name)
            else:
                due.append(stage)
        if not due:
            return
        journal.forget_from(tuple(names[names.index(due[0].name) :]))
        self.lab.save_journal(journal)

        def finished(record: StageRecord) -> None:
            journal.add(replace(record, digest=digests[record.name]), names)
            self.lab.save_journal(journal)
            summary.stages.append(record)
            if self._checkpoint is not None and record.name in self.lab.spec.snapshots:
                self.close()
                self._checkpoint(record.name)
                self.connect()

        # a snapshot restarts the machines, so nothing else may run then
        self._execute(plan.stages, due, secrets, finished, alone=bool(self.lab.spec.snapshots))
        order = [record.name for record in journal.stages]
        summary.stages.sort(key=lambda record: order.index(record.name))

    def do(self, stage: Stage) -> StageRecord:
        """Run one stage on connected nodes, apart from a plan and unrecorded.

        :raises LabError: an operation failed.
        """
        records: list[StageRecord] = []
        self._execute((stage,), (stage,), self.lab.secrets(), records.append)
        return records[0]

    def _execute(
        self,
        stages: Sequence[Stage],
        due: Sequence[Stage],
        secrets: Mapping[str, Secret],
        finished: Callable[[StageRecord], None],
        *,
        alone: bool = False,
    ) -> None:
        """Run stages of a plan; nothing that a killed labctl left on a node goes on beside them."""
        lab = self.lab
        on_each(lambda node: end_programs(self._sessions[node]), self._sessions)

        def run(stage: Stage) -> list[str]:
            return self._run(stage, secrets)

        def cpu_seconds() -> float:
            return lab.driver.cpu_seconds(lab)

        execute(stages, due, run, finished, cpu_seconds, alone=alone)

    def _run(self, stage: Stage, secrets: Mapping[str, Secret]) -> list[str]:
        """Do a stage; return the state of each of its operations."""
        states: list[str] = []
        with step("lab", stage.name):
            states += sources.bring(self.lab, self._sessions, stage)
            states += self._on_nodes(stage.name, stage.nodes, secrets)
            states += self.copy(stage.copies)
            states += self._on_apis(stage, secrets)
            states += self._on_nodes(f"{stage.name}-after", stage.after, secrets)
            self._keep(stage, secrets)
        return states

    def _on_nodes(self, name: str, nodes: Mapping[str, tuple[Item, ...]], secrets: Mapping[str, Secret]) -> list[str]:
        if not nodes:
            return []

        def seen(outcome: Outcome) -> None:
            if outcome.state != "failed":
                tell(outcome.node, outcome.title, outcome.seconds)

        def run(node: str) -> list[str]:
            result = run_stage(self._sessions[node], self.lab.name, node, name, nodes[node], secrets, seen)
            return [o.state for o in result.outcomes]

        return [state for states in on_each(run, nodes) for state in states]

    def _keep(self, stage: Stage, secrets: Mapping[str, Secret]) -> None:
        """Copy the stage's records into the lab's directory: ``verify/NODE-NAME.txt``."""
        for part in (stage.nodes, stage.after):
            for node, items in part.items():
                for record in (o for o in flatten(items) if isinstance(o, Record)):
                    said = self._sessions[node].run(f"cat {quote(record.path)}", timeout=30)
                    if said.status != 0:
                        continue
                    kept = self.lab.directory / "verify" / f"{node}-{record.name}.txt"
                    files.make_directories(kept.parent)
                    files.write_atomic(kept, redact(said.stdout, secrets))

    def clock(self, node: str) -> tuple[float, float]:
        """Seconds by which a node's clock is ahead of this machine's, and by how many that may be wrong."""
        before = time.time()
        said = self._sessions[node].run("date +%s.%N", timeout=30).stdout
        after = time.time()
        return float(said.strip() or "nan") - (before + after) / 2, (after - before) / 2

    def sums(self, copy: Copy, node: str) -> dict[str, str]:
        """The checksums of those files of a copy that a node has, by path."""
        words = " ".join(quote(p) for p in copy.paths)
        said = self._sessions[node].run(f"sha256sum {words} 2>/dev/null", timeout=30).stdout
        return {path: value for value, _, path in (line.partition("  ") for line in said.splitlines())}

    def copy(self, copies: Iterable[Copy]) -> list[str]:
        """Copy files from the node that made them to the nodes that need them, where they differ."""
        states: list[str] = []
        for copy in copies:
            wanted = self.sums(copy, copy.source)
            if len(wanted) < len(copy.paths):
                raise LabError(
                    f"{copy.title}: files are missing on {copy.source}", f"labctl ssh {self.lab.name} {copy.source}"
                )
            words = " ".join(quote(p) for p in copy.paths)
            packed = self._sessions[copy.source].run(f"tar -P -cf - {words} | base64 -w 0", timeout=60).stdout.encode()
            for target in copy.targets:
                if self.sums(copy, target) == wanted:
                    states.append("ok")
                    continue
                done = self._sessions[target].run("base64 -d | tar -P -xpf -", timeout=60, stdin=packed)
                if done.status != 0 or self.sums(copy, target) != wanted:
                    raise LabError(
                        f"{copy.title}: {target}: {done.stderr.strip() or 'the files differ'}",
                        f"labctl ssh {self.lab.name} {target}",
                    )
                states.append("changed")
        return states

    def _on_apis(self, stage: Stage, secrets: Mapping[str, Secret]) -> list[str]:
        if not stage.api:
            return []
        states: list[str] = []
        # outside the namespace, where mirrors and the CirrOS site are reachable
        guest = self._guest() if any(isinstance(o, GuestImageUpload) for o in stage.api) else None

        def work(cloud: Cloud) -> None:
            for operation in stage.api:
                began = time.monotonic()
                changed = self._asked(cloud, operation, secrets)
                states.append("changed" if changed else "ok")
                tell("api", operation.title, time.monotonic() - began)

        ask(self.lab, secrets, work, guest)
        return states

    def _asked(self, cloud: Cloud, operation: ApiOperation, secrets: Mapping[str, Secret]) -> bool:
        """Do an operation of the APIs, or check it; True if it changed something."""
        try:
            return cloud.run(operation)
        except ClientException as error:  # no answer, or a refusal that the operation does not expect
            said = redact(f"api: '{operation.title}' failed: {error}", secrets)
            raise LabError(said, f"labctl diagnose {self.lab.name}") from error

    def ask(
        self, operations: Sequence[ApiOperation], secrets: Mapping[str, Secret]
    ) -> list[tuple[ApiOperation, LabError]]:
        """Run all checks of the APIs; return those that failed, with their errors."""
        failed: list[tuple[ApiOperation, LabError]] = []

        def work(cloud: Cloud) -> None:
            for operation in operations:
                began = time.monotonic()
                try:
                    self._asked(cloud, operation, secrets)
                except LabError as error:
                    failed.append((operation, error))
                tell("api", operation.title, time.monotonic() - began)

        if operations:
            ask(self.lab, secrets, work)
        return failed
