"""One cell of a run: up, test, diagnose a failure, down; retry while retries are left; record each step.

Every step is idempotent, so a killed run resumes with the step that it was in: ``up`` converges and keeps the times
of the finished stages, ``down`` removes what is left.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.diagnose import report
from labctl.errors import LabError
from labctl.host import files, paths
from labctl.nightly import facts, steps
from labctl.nightly.history import GOOD, History
from labctl.nightly.matrix import Cell
from labctl.nightly.steps import Interrupted, Steps
from labctl.progress import note, step, warn
from labctl.records.directory import exists
from labctl.records.lab import Lab
from labctl.testing import junit
from labctl.topology.stages import STAGES

#: Seconds for the health check of a broken lab, its bundle and its snapshot.
LOOK, BUNDLE, KEEP = 240, 180, 600
#: Snapshot of a lab that is kept.
FAILURE = "failure"
NOTHING_COLLECTED = 5  # status of pytest


@dataclass
class Verdict:
    """Outcome of an attempt."""

    outcome: str = "passed"
    bad_stage: str = ""
    message: str = ""

    def spoil(self, outcome: str, stage: str, message: str) -> None:
        """Record a failure; only the first one counts."""
        if self.outcome == "passed":
            self.outcome, self.bad_stage, self.message = outcome, stage, message


@dataclass
class CellRun:
    """Runs one cell.

    :param row: the cell's row of the history.
    :param where: directory for its logs and artefacts.
    """

    history: History
    row: dict[str, Any]
    where: Path
    steps: Steps
    source: str
    git_commit: str
    cell: Cell = field(init=False)
    lab: str = field(init=False)

    def __post_init__(self) -> None:
        self.cell = Cell.from_json(self.row["definition"])
        self.lab = self.row["lab"]

    def run(self) -> str:
        """Run the remaining steps of the cell, clean up and return its outcome.

        :raises Interrupted: the run was stopped; the lab stays for ``--resume``.
        """
        try:
            return self._run()
        except Interrupted:
            raise
        except (LabError, OSError) as error:  # the history or a log cannot be written: a full disk
            message = error.message if isinstance(error, LabError) else f"{error.filename}: {error.strerror}"
        except Exception:  # a bug must not cost the other cells
            message = f"internal error in labctl:\n{traceback.format_exc()}"
        warn(self.cell.name, message.splitlines()[0])
        self._rescue()
        self._write(lambda: self._finish(Verdict("error", self.row["step"] or "up", message), kept=False))
        return "error"

    def _run(self) -> str:
        known = self.history.attempts(self.row["id"])
        done = [a for a in known if a["ended"] is not None]
        self._cell(state="running", began=self.row["began"] or time.time())
        verdict, number = Verdict("error", "up", "no attempt was made"), len(done)
        while number <= self.cell.retries:
            number += 1
            attempt = Attempt(self, number)
            with step(self.cell.name, f"attempt {number}" if number > 1 else "prove"):
                verdict = attempt.run()
            if verdict.outcome in GOOD or attempt.kept:
                break
            if number <= self.cell.retries:
                note(self.cell.name, f"{verdict.bad_stage}: {junit.first_line(verdict.message)}; retrying")
        if verdict.outcome == "passed" and number > 1:
            verdict.outcome = "flaky"
        self._finish(verdict, kept=number > 0 and attempt.kept)
        return verdict.outcome

    def _finish(self, verdict: Verdict, *, kept: bool) -> None:
        self._cell(
            state="done",
            outcome=verdict.outcome,
            bad_stage=verdict.bad_stage,
            message=verdict.message,
            ended=time.time(),
            kept=int(kept),
        )

    def _cell(self, **values: Any) -> None:
        self.row |= values
        self.history.update_cell(self.row["id"], **values)

    def at(self, name: str) -> None:
        """Record which step runs now."""
        self._cell(step=name)

    def _rescue(self) -> None:
        """Remove the lab without writing to the disk."""
        try:
            self.steps.silently(["down", self.lab], self.cell.timeouts["down"])
        except (LabError, OSError) as error:
            warn(self.cell.name, f"{self.lab} could not be removed: {error}; labctl down {self.lab}")

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except LabError as error:
            warn(self.cell.name, f"its outcome was not recorded: {error.message}")


class Attempt:
    """One attempt at a cell."""

    def __init__(self, owner: CellRun, number: int) -> None:
        self.owner, self.number = owner, number
        self.cell, self.lab, self.history = owner.cell, owner.lab, owner.history
        self.where = owner.where / f"attempt-{number}"
        self.id = self.history.begin_attempt(owner.row["id"], number, owner.git_commit)
        self.row = next(a for a in self.history.attempts(owner.row["id"]) if a["number"] == number)
        self.kept = False

    def run(self) -> Verdict:
        """Run the remaining steps."""
        verdict = Verdict()
        if self.row["outcome"]:  # interrupted after the verdict: only the clean-up is missing
            verdict = Verdict(self.row["outcome"], self.row["bad_stage"], self.row["message"])
            note(self.cell.name, f"resumes with the clean-up; it {verdict.outcome}")
        else:
            self._prove(verdict)
            self.history.update_attempt(
                self.id, outcome=verdict.outcome, bad_stage=verdict.bad_stage, message=verdict.message
            )
        if verdict.outcome not in GOOD:
            self._look()
        self._end(verdict)
        self.history.record_artefacts(self.id, kinds_of(self.where))
        self.history.update_attempt(
            self.id,
            ended=time.time(),
            outcome=verdict.outcome,
            bad_stage=verdict.bad_stage,
            message=verdict.message,
            process="",
        )
        return verdict

    def _step(self, name: str, words: list[str], timeout: float) -> steps.Outcome:
        """Run a step and record it; its CPU time includes that of the lab's machines."""
        self.owner.at(name)
        before = self._machines()
        began = time.time()
        done = self.owner.steps.run(
            words,
            self.where / f"{name}.log",
            timeout,
            started=lambda known: self.history.update_attempt(self.id, process=known),
        )
        outcome = "timeout" if done.late else "passed" if done.status == 0 else "failed"
        used = max(0.0, self._machines() - before) if name != "down" else 0.0
        self.history.record_stage(self.id, name, outcome, done.seconds, done.cpu_seconds + used)
        note(self.cell.name, f"{name} {outcome} ({time.time() - began:.0f} s)")
        return done

    def _machines(self) -> float:
        """CPU seconds of the lab's machines so far; 0 without machines."""
        try:
            lab = Lab.load(self.lab)
            return lab.driver.cpu_seconds(lab)
        except LabError:
            return 0.0

    # --- proving -------------------------------------------------------------------------------

    def _prove(self, verdict: Verdict) -> None:
        cell = self.cell
        if self.row["process"]:
            note(cell.name, f"resumes with {self.owner.row['step'] or 'up'}")
        elif exists(self.lab):
            self._step("down", ["down", self.lab], cell.timeouts["down"])
        up = self._step("up", cell.up(self.lab), cell.timeouts["up"])
        self._stages(up)
        self._versions()
        if not up.good:
            reason = f"timed out after {cell.timeouts['up']} s\n" if up.late else ""
            verdict.spoil("timeout" if up.late else "failed", self._bad_stage(), reason + steps.said(up.log))
            return
        if cell.join:
            for node in Lab.load(self.lab).spec.later:
                joined = self._step("join", ["node", "add", self.lab, node], cell.timeouts["up"])
                if not joined.good:
                    verdict.spoil("timeout" if joined.late else "failed", "join", steps.said(joined.log))
                    return
        for name, words in cell.hops(self.lab).items():
            hop = self._step(name, words, cell.timeouts["upgrade"])
            if not hop.good:
                verdict.spoil("timeout" if hop.late else "failed", name, steps.said(hop.log))
                return
        self._test(verdict)

    def _test(self, verdict: Verdict) -> None:
        report = self.where / "junit.xml"
        words = self.cell.test(self.lab, "--junit", str(report))
        words += ["--lab-artifacts", str(self.where / "captures")]
        done = self._step("test", words, self.cell.timeouts["test"])
        cases: list[junit.Case] = []
        if report.exists():
            try:
                cases = junit.read(report)
                self.history.record_tests(self.id, cases)
            except LabError as error:
                verdict.spoil("failed", "test", error.message)
        if done.late:
            verdict.spoil("timeout", "test", f"timed out after {self.cell.timeouts['test']} s\n{steps.said(done.log)}")
        elif done.status == NOTHING_COLLECTED or (done.good and not cases):
            verdict.spoil("failed", "test", "no tests ran")
        elif not done.good:
            verdict.spoil("failed", "test", junit.failures(cases) or steps.said(done.log))

    def _stages(self, up: steps.Outcome) -> None:
        """Record the stages of ``up`` from the lab's journal, and the one that failed from its events."""
        try:
            done = Lab.load(self.lab).journal().stages
        except LabError:
            return
        for record in done:
            self.history.record_stage(self.id, f"up/{record.name}", "passed", record.seconds, record.cpu_seconds)
        if not up.good and (bad := self._bad_stage()) in STAGES and bad not in [r.name for r in done]:
            seconds = next((e["seconds"] for e in reversed(self._events()) if e["text"] == bad and e["seconds"]), 0.0)
            self.history.record_stage(self.id, f"up/{bad}", "timeout" if up.late else "failed", seconds, 0.0)

    def _events(self) -> list[dict[str, Any]]:
        found = []
        path = paths.labs() / self.lab / "events.jsonl"
        for line in steps.tail(path, 200_000).splitlines():
            try:
                event = json.loads(line)
            except ValueError:  # the last line of a process that was killed
                continue
            if event.get("where") == "lab" and event.get("text") in STAGES:
                found.append(event)
        return found

    def _bad_stage(self) -> str:
        """The stage in which ``up`` failed or timed out."""
        last: dict[str, str] = {event["text"]: event["kind"] for event in self._events()}
        for kind in ("fail", "begin"):
            if found := [stage for stage, ended in last.items() if ended == kind]:
                return found[0] if kind == "fail" else found[-1]
        return "up"

    def _versions(self) -> None:
        names = facts.images(self.lab)
        for name in names:
            self.history.record_image(name, facts.packages(name))
        sources = facts.sources(self.lab)
        hashed = facts.inputs(self.cell, self.owner.source, names, sources)
        self.history.update_attempt(self.id, images=json.dumps(names), inputs=hashed, sources=json.dumps(sources))

    # --- the end -------------------------------------------------------------------------------

    def _look(self) -> None:
        """Run the health check and the diagnosis of a failed lab, and keep their findings and its bundle."""
        if not exists(self.lab):
            return
        log = self.where / "look.log"
        done = self.owner.steps.run(["status", self.lab, "--check", "-o", "json"], log, LOOK)
        self.owner.at("look")
        if done.late:
            note(self.cell.name, f"labctl status {self.lab} --check timed out after {LOOK} s")
        self.history.record_findings(self.id, ailments(log.read_text(errors="replace")))
        log = self.where / "diagnose.log"
        done = self.owner.steps.run(["diagnose", self.lab, "-o", "json"], log, LOOK)
        why = f"timed out after {LOOK} s" if done.late else diagnosis(log.read_text(errors="replace"))
        self.history.update_attempt(self.id, diagnosis=why)
        kept = sorted((paths.labs() / self.lab / "bundles").glob("*.tar.zst"))
        target = self.where / "bundle.tar.zst"
        if kept:
            files.copy(kept[-1], target)
        elif not target.exists():
            self.owner.steps.run(["bundle", self.lab, "-o", str(target)], self.where / "bundle.log", BUNDLE)

    def _end(self, verdict: Verdict) -> None:
        last = self.number > self.cell.retries
        if verdict.outcome not in GOOD and last and self.cell.keep_on_failure and exists(self.lab):
            done = self._step("keep", ["snapshot", "create", self.lab, FAILURE, "--stop"], KEEP)
            self.kept = True
            if not done.good:
                note(self.cell.name, f"{self.lab} is kept without a snapshot: {steps.said(done.log)}")
            return
        for _ in range(2):
            done = self._step("down", ["down", self.lab], self.cell.timeouts["down"])
            if done.good:
                return
        verdict.spoil("timeout" if done.late else "failed", "down", steps.said(done.log))


def kinds_of(where: Path) -> dict[Path, str]:
    """What is in the directory of an attempt, and the kind of each."""
    kinds = {"junit.xml": "junit", "bundle.tar.zst": "bundle", "captures": "captures"}
    return {path: kinds.get(path.name, "log") for path in sorted(where.iterdir())} if where.is_dir() else {}


def _json(said: str) -> dict[str, Any] | None:
    """The object in a command's output, which messages surround."""
    start = f"\n{said}".find("\n{")
    try:
        found = json.JSONDecoder().raw_decode(said[start:])[0] if start >= 0 else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def diagnosis(said: str) -> str:
    """The first finding in the output of ``labctl diagnose -o json``, or the error of the diagnosis."""
    found = _json(said)
    if found is None:
        return next((f"no diagnosis: {error}" for error in _errors(said)), "no diagnosis")
    return report.first(found) or "nothing is wrong"


def _errors(said: str) -> list[str]:
    return [line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")][-1:]


def ailments(said: str) -> list[dict[str, str]]:
    """Findings in the output of ``labctl status --check -o json``; its error when the check itself failed."""
    if (found := _json(said)) is not None:
        try:
            return [{k: str(a[k]) for k in ("where", "what", "last")} for a in found.get("ailments", [])]
        except KeyError:
            pass
    return [{"where": "lab", "what": "health check failed", "last": line} for line in _errors(said)]
