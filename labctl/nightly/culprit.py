"""Find the commit of a project's own repository that breaks a cell: git bisect over the project, on one lab.

The lab comes up once with the release's own project, and a snapshot of it is taken. Every commit begins from there: it
is built, which shows those that do not install, brought to the lab, and tested.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files, process
from labctl.lab import source
from labctl.nightly import steps as running
from labctl.nightly.cellrun import NOTHING_COLLECTED
from labctl.nightly.history import History
from labctl.nightly.matrix import Cell
from labctl.nightly.run import slug
from labctl.nightly.steps import Steps
from labctl.progress import note, step
from labctl.records.directory import exists
from labctl.records.lab import Lab
from labctl.sources import build, tree
from labctl.sources.given import Given, Kind

SNAPSHOT = "before"
GOOD, BAD, SKIP = "good", "bad", "skip"
#: Seconds to restore the snapshot, and for a project's daemons to start.
RESTORE, CHANGE = 1800, 1800
_FOUND = re.compile(r"^([0-9a-f]{40}) is the first bad commit", re.MULTILINE)


@dataclass
class Try:
    """A commit: what became of it, in how many seconds, and why; the log has the whole."""

    commit: str
    verdict: str
    seconds: float
    subject: str
    why: str
    log: str


@dataclass
class Culprit:
    """A search in a project's repository, between two of its commits.

    :param place: the repository, a directory or a URL.
    :param test: only the tests that this expression names decide (pytest's -k).
    """

    history: History
    cell: Cell
    project: str
    place: str
    good: str
    bad: str
    test: str = ""
    command: tuple[str, ...] = running.LABCTL
    environment: dict[str, str] = field(default_factory=dict)
    tries: list[Try] = field(default_factory=list)

    @property
    def lab(self) -> str:
        """The lab of all commits."""
        name = f"bisect-{self.project}-{slug(self.cell.name)}"
        return re.sub(r"[^a-z0-9-]", "-", name.lower())[:30].strip("-")

    @property
    def where(self) -> Path:
        """Directory for the repository's copy and the logs."""
        return self.history.path.parent / "bisect" / f"{self.project}-{slug(self.cell.name)}"

    def run(self) -> tuple[str, str]:
        """Find the first bad commit; return it and its subject. Removes everything but the logs.

        :raises LabError: a commit does not exist, the good one is bad or the bad one good, the lab does not come up, or
            only commits that do not install are left.
        """
        files.make_directories(self.where)
        files.erase(self._tree, within=self.where)
        number = 0
        try:
            with step("bisect", f"copy {self.place}"):
                clone = ("git", "-c", "safe.directory=*", "clone", "--quiet", "--no-checkout")
                process.run([*clone, self.place, str(self._tree)], timeout=tree.FETCH)
            good, bad = (self._named(commit) for commit in (self.good, self.bad))
            stage = f"source {self.project}"
            number = self.history.begin_bisection(cell=self.cell.name, stage=stage, good=good, bad=bad)
            self._ready()
            for commit, wanted in ((good, GOOD), (bad, BAD)):
                if (seen := self._try(commit, number)).verdict != wanted:
                    raise LabError(
                        f"nothing to bisect: {self.project} is {seen.verdict} at {commit[:12]}: {seen.why}",
                        f"less {seen.log}",
                    )
            culprit = self._search(good, bad, number)
            subject = self._subject(culprit)
            self.history.update_bisection(number, culprit=culprit, subject=subject, ended=time.time())
            return culprit, subject
        finally:
            if exists(self.lab):
                self._steps.run(["down", self.lab], self.where / "down.log", self.cell.timeouts["down"])
            files.erase(self._tree, within=self.where)

    @property
    def _tree(self) -> Path:
        return self.where / "tree"

    @property
    def _steps(self) -> Steps:
        return Steps(lambda: False, self.command, self.environment)

    def _git(self, *words: str) -> str:
        return process.output(["git", "-C", self._tree, *words], timeout=tree.GIT)

    def _named(self, commit: str) -> str:
        """The hash of a commit; branches of the repository are the copy's remote ones.

        :raises LabError: there is no such commit.
        """
        for name in (commit, f"origin/{commit}"):
            if found := tree.asked(self._tree, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"):
                return found
        raise LabError(f"{self.place} has no commit '{commit}'", f"git ls-remote {self.place}")

    def _subject(self, commit: str) -> str:
        return self._git("show", "-s", "--format=%s", commit)

    def _ready(self) -> None:
        """Bring the lab up with the release's own project, and take the snapshot that every commit begins from."""
        log = self.where / "up.log"
        files.erase(log, within=self.where)
        if exists(self.lab):
            self._steps.run(["down", self.lab], log, self.cell.timeouts["down"])
        with step("bisect", f"{self.lab} comes up"):
            own = {name: where for name, where in self.cell.sources.items() if name != self.project}
            for words in (replace(self.cell, sources=own).up(self.lab), ["snapshot", "create", self.lab, SNAPSHOT]):
                if not self._steps.run(words, log, self.cell.timeouts["up"]).good:
                    raise LabError(f"{self.lab} does not come up: {running.said(log)}", f"less {log}")

    def _search(self, good: str, bad: str, number: int) -> str:
        said = self._git("bisect", "start", "--no-checkout", bad, good)
        while not (found := _FOUND.search(said)):
            if "only 'skip'ped commits left" in said:
                left = [line for line in said.splitlines() if re.fullmatch("[0-9a-f]{40}", line)]
                raise LabError(
                    f"the first bad commit is one of {len(left)}, of which others do not install: "
                    + ", ".join(commit[:12] for commit in left),
                    f"ls {self.where}",
                )
            seen = self._try(self._git("rev-parse", "BISECT_HEAD"), number)
            # of skipped commits git says what is left with status 2
            done = process.run(["git", "-C", self._tree, "bisect", seen.verdict], timeout=tree.GIT, check=False)
            said = done.stdout
            if done.returncode not in (0, 2):
                raise LabError(f"git bisect: {done.stderr.strip()}")
        return found[1]

    def _tests(self) -> list[str]:
        """The tests that decide: those that were named, else the cell's, of a whole suite its smoke tests."""
        if self.test:
            return replace(self.cell, select=(), keyword=self.test, smoke=False).test(self.lab, "--no-bundle")
        return replace(self.cell, smoke=self.cell.smoke or not self.cell.select).test(self.lab, "--no-bundle")

    # --- one commit ----------------------------------------------------------------------------

    def _try(self, commit: str, number: int) -> Try:
        began, log = time.monotonic(), self.where / f"{commit[:12]}.log"
        files.erase(log, within=self.where)
        with step("bisect", f"test {commit[:12]}"):
            verdict, why = self._judged(commit, log)
        seen = Try(
            commit, verdict, round(time.monotonic() - began, 1), self._subject(commit), why.partition("\n")[0], str(log)
        )
        note("bisect", f"{commit[:12]} is {verdict} after {seen.seconds:.0f} s" + (f": {seen.why}" if why else ""))
        self.tries.append(seen)
        self.history.update_bisection(number, steps=json.dumps([vars(each) for each in self.tries]))
        return seen

    def _judged(self, commit: str, log: Path) -> tuple[str, str]:
        """What becomes of a commit, and why."""
        given, lab = Given(self.project, Kind.COMMIT, str(self._tree), commit), Lab.load(self.lab)
        try:
            # of another release, or with requirements that are not met: it does not install
            build.made(source.home(lab), lab.spec, given)
        except LabError as error:
            return SKIP, error.message
        restored = self._steps.run(["snapshot", "restore", self.lab, SNAPSHOT], log, RESTORE)
        if not restored.good:
            raise LabError(f"{self.lab} is not restored: {running.said(log)}", f"less {log}")
        if not self._steps.run(["source", self.lab, given.text], log, CHANGE).good:
            return BAD, running.said(log)
        tested = self._steps.run(self._tests(), log, self.cell.timeouts["test"])
        if tested.status == NOTHING_COLLECTED:
            raise LabError(f"no test is named by {self.test!r}", f"less {log}")
        return (GOOD, "") if tested.good else (BAD, _failed(log))


def _failed(log: Path) -> str:
    """The first test that failed, as pytest names it; else what the command said last."""
    named = re.search(r"^(?:FAILED|ERROR) (\S+.*)$", running.tail(log, 20_000), re.MULTILINE)
    return named[1] if named else running.said(log)
