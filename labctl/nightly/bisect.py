"""Find the commit that broke a cell: git bisect in a worktree, each commit tested on a real lab.

One lab serves all commits. For the first commit it is brought up to the stage before the bad one and a snapshot is
taken; later commits resume from it with ``up --from``, which reruns the stages from the first whose inputs that
commit changed. Where a commit changed what a snapshot does not cover (images, drivers, the format of labctl's
own records), the lab is rebuilt.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl import checkout
from labctl.errors import LabError
from labctl.host import files, process
from labctl.nightly import steps as running
from labctl.nightly.history import History
from labctl.nightly.matrix import Cell
from labctl.nightly.run import slug
from labctl.nightly.steps import Steps
from labctl.progress import note, step
from labctl.records.directory import exists
from labctl.topology.stages import STAGES

#: What decides a lab's content besides the stages' inputs: a snapshot fits only commits where this is equal.
UNSEEN = (
    "labctl/images", "labctl/bases", "labctl/drivers", "labctl/lab", "labctl/records",
    "labctl/host/network.py", "labctl/topology/spec.py", "kickstart",
)  # fmt: skip
SNAPSHOT = "before"
#: Seconds for a git command.
GIT = 120
_FOUND = re.compile(r"^([0-9a-f]{40}) is the first bad commit", re.MULTILINE)


def _checkout() -> Path:
    """The checkout whose commits are tested.

    :raises LabError: labctl was not installed from a checkout.
    """
    if (root := checkout()) is None:
        raise LabError("there are no commits to test: labctl is not installed from a git checkout", "git clone")
    return root


@dataclass
class Try:
    """A tested commit."""

    commit: str
    verdict: str  # good, bad
    seconds: float
    checkpoint: bool
    why: str = ""


@dataclass
class Bisection:
    """A search between two commits.

    :param stage: the bad stage: one of ``up``, ``test``, ``join``, ``upgrade-RELEASE`` or a stage of ``up``.
    :param test: only this test decides.
    """

    history: History
    cell: Cell
    stage: str
    good: str
    bad: str
    test: str = ""
    root: Path = field(default_factory=_checkout)
    command: tuple[str, ...] = running.LABCTL
    environment: dict[str, str] = field(default_factory=dict)
    tries: list[Try] = field(default_factory=list)
    checkpoint: str = ""

    @property
    def lab(self) -> str:
        """The lab of all commits."""
        return f"bisect-{slug(self.cell.name).replace('_', '-').lower()[:30].strip('-.')}".replace(".", "-")

    @property
    def where(self) -> Path:
        """Directory for the worktree and the logs."""
        return self.history.path.parent / "bisect" / slug(self.cell.name)

    @property
    def tree(self) -> Path:
        """The worktree."""
        return self.where / "tree"

    def run(self, show: Callable[[Try], None] = lambda _: None) -> tuple[str, str]:
        """Find the first bad commit; return it and its subject. Cleans up everything but the logs.

        :raises LabError: a commit does not exist, the good one is bad or the bad one good, or git fails.
        """
        good, bad = (self._git("rev-parse", "--verify", f"{c}^{{commit}}", at=self.root) for c in (self.good, self.bad))
        files.make_directories(self.where)
        self._remove_tree()
        number = self.history.begin_bisection(cell=self.cell.name, stage=self.stage, good=good, bad=bad)
        self._git("worktree", "add", "--detach", str(self.tree), good, at=self.root)
        try:
            for commit, wanted in ((good, "good"), (bad, "bad")):
                self._git("checkout", "--detach", commit)
                if (seen := self._try(show)).verdict != wanted:
                    raise LabError(
                        f"nothing to bisect: {self.cell.name} is {seen.verdict} at {commit[:12]}: {seen.why}",
                        f"labctl nightly bisect {self.cell.name} --good COMMIT --bad COMMIT",
                    )
                self._record(number)
            culprit = self._search(good, bad, number, show)
            subject = self._git("show", "-s", "--format=%s", culprit)
            self.history.update_bisection(number, culprit=culprit, subject=subject, ended=time.time())
            return culprit, subject
        finally:
            if exists(self.lab):
                self._steps().run(["down", self.lab], self.where / "down.log", self.cell.timeouts["down"])
            self._remove_tree()

    def _search(self, good: str, bad: str, number: int, show: Callable[[Try], None]) -> str:
        said = self._git("bisect", "start", bad, good)
        while not (found := _FOUND.search(said)):
            seen = self._try(show)
            self._record(number)
            said = self._git("bisect", seen.verdict)
        return found[1]

    def _record(self, number: int) -> None:
        self.history.update_bisection(number, steps=json.dumps([vars(t) for t in self.tries]))

    # --- one commit ----------------------------------------------------------------------------

    def _try(self, show: Callable[[Try], None]) -> Try:
        commit = self._git("rev-parse", "HEAD")
        began = time.monotonic()
        with step("bisect", f"test {commit[:12]}"):
            usable = self.checkpoint != "" and exists(self.lab) and self._unseen("HEAD") == self.checkpoint
            why = self._bad(commit, usable)
        seen = Try(commit, "bad" if why else "good", round(time.monotonic() - began, 1), usable, why)
        note("bisect", f"{commit[:12]} is {seen.verdict}" + (f": {why.partition(chr(10))[0]}" if why else ""))
        self.tries.append(seen)
        show(seen)
        return seen

    def _bad(self, commit: str, usable: bool) -> str:
        """Why the commit is bad; empty when it is good."""
        run = self._steps()
        up, timeouts = self.cell.up(self.lab), self.cell.timeouts
        log = self.where / f"{commit[:12]}.log"
        files.erase(log, within=self.where)
        before = self._before()
        if usable:
            up = [*up, "--from", SNAPSHOT]
        else:
            if exists(self.lab):
                run.run(["down", self.lab], log, timeouts["down"])
            self.checkpoint = ""
            if before:
                done = run.run([*up, "--until", before], log, timeouts["up"])
                if not done.good:
                    return running.said(log)
                if run.run(["snapshot", "create", self.lab, SNAPSHOT], log, timeouts["up"]).good:
                    self.checkpoint = self._unseen("HEAD")
        done = run.run([*up, *(["--until", self.stage] if self.stage in STAGES else [])], log, timeouts["up"])
        if not done.good:
            return running.said(log) or "timed out"
        if self.stage == "join":
            for node in self._later():
                if not run.run(["node", "add", self.lab, node], log, timeouts["up"]).good:
                    return running.said(log)
        hops = self.cell.hops(self.lab, self.stage)
        if self.stage in ("test", *hops):
            for words in hops.values():
                if not run.run(words, log, timeouts["upgrade"]).good:
                    return running.said(log) or "timed out"
        if self.stage == "test":
            words = ["test", self.lab, "-n", str(self.cell.workers)]
            words += ["--smoke"] if self.cell.smoke and not self.test else []
            if self.test or self.cell.select or self.cell.keyword:
                chosen = [self.test] if self.test else [f"e2e/{s.removeprefix('e2e/')}" for s in self.cell.select]
                words += ["--", *chosen, *(["-k", self.cell.keyword] if self.cell.keyword else [])]
            if not run.run(words, log, timeouts["test"]).good:
                return running.said(log) or "timed out"
        return ""

    def _before(self) -> str:
        """The stage to take a snapshot after: the one before the bad one."""
        if self.stage in STAGES:
            position = STAGES.index(self.stage)
            return STAGES[position - 1] if position else ""
        return "verify" if self.stage in ("test", "join", *self.cell.hops(self.lab)) else ""

    def _later(self) -> list[str]:
        run = self._steps()
        words = [*run.command, "status", self.lab, "-o", "json"]
        status = process.run(words, timeout=GIT, env=run.variables, cwd=run.directory)
        return list(json.loads(status.stdout)["later"])

    def _steps(self) -> Steps:
        """labctl of the worktree."""
        return Steps(lambda: False, self.command, self.environment, self.tree)

    # --- git -----------------------------------------------------------------------------------

    def _git(self, *words: str, at: Path | None = None) -> str:
        return process.output(["git", "-C", at or self.tree, *words], timeout=GIT)

    def _unseen(self, commit: str) -> str:
        """Git's listing of what a snapshot does not cover."""
        return self._git("ls-tree", "-r", commit, "--", *UNSEEN) or "nothing"

    def _remove_tree(self) -> None:
        files.remove(self.tree, within=self.where)
        self._git("worktree", "prune", at=self.root)


def begin(
    history: History, cell: str, good: str | None, bad: str | None, known: dict[str, list[dict[str, Any]]]
) -> Bisection:
    """A bisection of a cell between the given commits, by default those of the history.

    :param known: :func:`labctl.nightly.analysis.timeline`.
    :raises LabError: no commits are given, and the history has no last good and first bad run of the cell.
    """
    from labctl.nightly import analysis

    seen = analysis.standing(known[cell])
    commits = seen.commits
    if (good is None or bad is None) and commits is None:
        raise LabError(
            f"the history has no good run of {cell} before a bad one with another commit",
            f"labctl nightly bisect {cell} --good COMMIT --bad COMMIT",
        )
    stage = seen.first_bad_stage or seen.row["bad_stage"] or "test"
    return Bisection(
        history,
        Cell.from_json(seen.row["definition"]),
        stage,
        good or (commits[0] if commits else ""),
        bad or (commits[1] if commits else ""),
    )
