"""Kill labctl at random moments, go on as a user would, and look that nothing is lost or left.

    python tests/faults/torture.py --rounds 100 [--seed 7] [--home DIRECTORY]

Each round starts a command on a small lab, kills it, and recovers: by ``up`` or ``repair``, after which the
lab must be well and hold what it held before or after that command, or by ``down`` or ``gc``, after which
nothing of it may be left on the machine. Other rounds fill its disk or run two ``gc`` beside it. Prints a table; status
1 when any round went wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness import Done, Home, fill, moment, small_disk

LAB = f"torture-{os.getpid()}"  # networks have a lab's name, whatever its home
OTHER = f"{LAB}-2"


@dataclass
class Round:
    """What a round did and what came of it; ``wrong`` is empty when all was well."""

    number: int
    command: str
    killed: float | None
    recovered: str = ""
    seconds: float = 0.0
    wrong: str = ""
    #: what came at that moment
    by: str = "kill"


#: An image that takes two seconds.
BUILD = """
import time
from labctl.images import store

def build(work):
    (work / "tree").mkdir()
    time.sleep(2)
    (work / "tree/file").write_text("whole")
    return {}

print((store.ensure(store.Recipe("torture", {}), build) / "tree/file").read_text())
"""


@dataclass
class Torture:
    """A lab, what it should hold, and the rounds so far."""

    home: Home
    #: the file system of the home
    disk: Path
    dice: random.Random
    rounds: list[Round] = field(default_factory=list)
    #: how long each command takes when nobody kills it (seconds)
    takes: dict[str, float] = field(default_factory=dict)
    mark: str = ""
    #: snapshot -> the mark it holds
    snapshots: dict[str, str] = field(default_factory=dict)
    up: bool = False

    def __post_init__(self) -> None:
        self.topology = str(self.home.topology(LAB))
        self.home.names.append(OTHER)

    def run(self, rounds: int, show: Callable[[Round], None]) -> list[Round]:
        """Do so many rounds and remove everything."""
        self._calibrate()
        deck: list[Callable[[Round], None]] = []
        for number in range(1, rounds + 1):
            deck = deck or self._deck()
            kind = deck.pop() if self.up else self._up
            made = Round(number, kind.__name__.strip("_"), None)
            began = time.monotonic()
            try:
                kind(made)
                self._no_bug(self.home.ask("list"))
            except AssertionError as error:
                made.wrong = str(error) or "an assertion without words"
                self._begin_again()
            made.seconds = time.monotonic() - began
            self.rounds.append(made)
            show(made)
        self.home.must("down", LAB)
        if left := self.home.leaks(LAB, OTHER):
            self.rounds.append(Round(rounds + 1, "the end", None, wrong=f"left: {left}"))
        return self.rounds

    def _deck(self) -> list[Callable[[Round], None]]:
        """Every kind of round, in any order."""
        often = [self._up, self._down, self._snapshot, self._restore, self._snapshot, self._restore] * 3
        rare = [self._delete, self._clone, self._gc, self._full, self._full, self._beside, self._build]
        return self.dice.sample([*often, *rare], len(often) + len(rare))

    # --- rounds --------------------------------------------------------------------------------

    def _up(self, made: Round) -> None:
        if self.up:
            self.home.must("down", LAB)
            self._forget()
        self._kill(made, "up", self.topology)
        self._recover(made, {""})

    def _down(self, made: Round) -> None:
        self._mark(made)
        marks = {self.mark, ""}
        self._kill(made, "down", LAB)
        known = dict(self.snapshots)
        self.snapshots = {}
        self._recover(made, marks)
        if self.up and self.mark:  # killed before anything happened
            self.snapshots = known

    def _snapshot(self, made: Round) -> None:
        self._mark(made)
        name = f"s{made.number}"
        self._kill(made, "snapshot", "create", LAB, name)
        self._recover(made, {self.mark}, down=False)
        there = self._listed()
        assert set(self.snapshots) <= there <= {*self.snapshots, name}, f"snapshots: {there}"
        assert name in there or made.killed is not None, "it ended, and there is no snapshot"
        if name in there:
            self.snapshots[name] = self.mark

    def _restore(self, made: Round) -> None:
        if not self.snapshots:
            self._snapshot(made)
            return
        self._mark(made)
        name = self.dice.choice(sorted(self.snapshots))
        self._kill(made, "snapshot", "restore", LAB, name)
        self._recover(made, {self.mark, self.snapshots[name]}, down=False)
        if self.dice.random() < 0.3:
            self.home.must("snapshot", "restore", LAB, name)
            self._expect({self.snapshots[name]})

    def _delete(self, made: Round) -> None:
        if not self.snapshots:
            self._snapshot(made)
            return
        self._mark(made)
        name = self.dice.choice(sorted(self.snapshots))
        self._kill(made, "snapshot", "delete", LAB, name)
        self._recover(made, {self.mark}, down=False)
        there = self._listed()
        assert set(self.snapshots) - {name} <= there <= set(self.snapshots), f"snapshots: {there}"
        self.snapshots = {key: mark for key, mark in self.snapshots.items() if key in there}

    def _clone(self, made: Round) -> None:
        self._mark(made)
        self._kill(made, "clone", LAB, OTHER)
        self._recover(made, {self.mark}, down=False)
        if OTHER in {row["name"] for row in self.home.json("list") if row["machines"] != "no record"}:
            self.home.must("repair", OTHER)
            assert self.home.read(OTHER) == (self.mark, self.mark), "the clone has another content"
        self._remove(OTHER)

    def _gc(self, made: Round) -> None:
        topology = str(self.home.topology(OTHER))
        self.home.run("up", topology, kill_after=moment(self.takes["up"], self.dice))
        (self.home.path / "labs" / OTHER / "lab.json").unlink(missing_ok=True)
        self._kill(made, "gc")
        made.recovered = "gc"
        self._no_bug(self.home.must("gc"))
        if left := self.home.leaks(OTHER):
            raise AssertionError(f"left: {left}")
        self.home.must("status", "--check", LAB)

    def _full(self, made: Round) -> None:
        """The disk is full from a moment on: ``down`` needs no space, and what has space again is as it was."""
        self._mark(made)
        ballast = self.disk / "ballast"
        verb = "restore" if self.snapshots and self.dice.random() < 0.5 else "create"
        name = self.dice.choice(sorted(self.snapshots)) if verb == "restore" else f"s{made.number}"
        try:
            self._kill(made, "snapshot", verb, LAB, name, by="disk full")
            if self.dice.random() < 0.5:
                made.recovered = "down"
                self._remove(LAB)
                return
        finally:
            ballast.unlink(missing_ok=True)
        self._recover(made, {self.mark, self.snapshots.get(name, self.mark)}, down=False)
        there = self._listed()
        assert set(self.snapshots) <= there <= {*self.snapshots, name}, f"snapshots: {there}"
        self.snapshots |= dict.fromkeys(there - set(self.snapshots), self.mark)

    def _beside(self, made: Round) -> None:
        """Two ``gc`` at once take nothing from an ``up``."""
        self.home.must("down", LAB)
        self._forget()
        self._kill(made, "up", self.topology, by="two gc")
        self._recover(made, {""}, down=False)

    def _build(self, made: Round) -> None:
        """Nor from an image that is built."""
        made.command, made.by = "image build", "two gc"
        made.killed = self.dice.uniform(0.2, 3)
        home = Home(self.home.path / "builder")
        (home.path / "images").unlink()
        environment = {**os.environ, "LABCTL_HOME": str(home.path)}
        words = [sys.executable, "-c", BUILD]
        with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as building:
            time.sleep(made.killed)
            self._two_gc(home)
            said = building.communicate(timeout=60)[0]
        assert (building.returncode, said) == (0, "whole\n"), said
        shutil.rmtree(home.path)

    # --- what they are made of -----------------------------------------------------------------

    def _calibrate(self) -> None:
        """Bring the lab up and back once, to know how long commands take here and now."""
        self._time("up", self.topology)
        self.up = True
        self._mark(Round(0, "", None))
        self._time("snapshot", "create", LAB, "first")
        self.snapshots["first"] = self.mark
        self._time("snapshot", "restore", LAB, "first")
        self._time("snapshot", "create", LAB, "second")
        self._time("snapshot", "delete", LAB, "second")
        self.takes["clone"] = self.takes["snapshot create"] * 1.5
        self.takes["gc"] = self.takes["down"] = 2.5

    @staticmethod
    def _verb(words: tuple[str, ...]) -> str:
        return " ".join(words[:2]) if words[0] == "snapshot" else words[0]

    def _time(self, *words: str) -> None:
        self.takes[self._verb(words)] = self.home.must(*words).seconds

    def _kill(self, made: Round, *words: str, by: str = "") -> None:
        """Run a command, and at a moment end it, or do to it what ``by`` says."""
        made.command = self._verb(words)
        made.by = by or self.dice.choice(["kill", "kill", "term"])
        acts: dict[str, Callable[[subprocess.Popen[str]], object]] = {
            "kill": subprocess.Popen.kill,
            "term": subprocess.Popen.terminate,
            "disk full": lambda _: fill(self.disk, 0),
            "two gc": lambda _: self._two_gc(self.home),
        }
        after = moment(self.takes[made.command] * 1.05, self.dice)
        done = self.home.run(*words, kill_after=after, kill=acts[made.by])
        self._no_bug(done)
        made.killed = after if done.killed else None
        may = {"kill": {-9}, "term": {143, -15}, "disk full": {1}}.get(made.by, set())  # -15: still importing modules
        assert done.status == 0 or (done.killed and done.status in may), str(done)

    def _two_gc(self, home: Home) -> None:
        beside = home.start("gc")
        self._no_bug(home.must("gc"))
        out, err = beside.communicate(timeout=60)
        assert beside.returncode == 0, out + err

    def _no_bug(self, done: Done) -> None:
        assert done.status != 3, str(done)
        assert "Traceback" not in done.err, str(done)

    def _recover(self, made: Round, marks: set[str], *, down: bool = True) -> None:
        """Go on by ``up`` or ``repair``, or, where that is as good, remove the lab."""
        ways = ["up", "up", "repair"] + (["down", "gc"] if down else [])
        made.recovered = self.dice.choice(ways)
        if made.recovered == "repair" and made.command in ("up", "down", "snapshot restore"):
            made.recovered = "up"  # what does not exist, or not wholly, is nothing to repair
        if made.recovered == "gc":
            (self.home.path / "labs" / LAB / "lab.json").unlink(missing_ok=True)
            self._no_bug(self.home.must("gc"))
            self._gone(LAB)
        elif made.recovered == "down":
            self._remove(LAB)
        else:
            self._no_bug(self.home.must(made.recovered, self.topology if made.recovered == "up" else LAB))
            self.up = True
            self.home.must("status", "--check", LAB)
            self._expect(marks)

    def _expect(self, marks: set[str]) -> None:
        """The lab holds one of these, the same in its files and on its disk."""
        if marks == {""}:
            self.mark = ""
            return
        file, disk = self.home.read(LAB)
        assert file == disk, f"the file says {file!r}, the disk {disk!r}"
        assert file in marks, f"the lab holds {file!r}, not one of {marks}"
        self.mark = file

    def _mark(self, made: Round) -> None:
        self.mark = f"round-{made.number}-{self.dice.randrange(10**6)}"
        self.home.write(LAB, self.mark)

    def _listed(self) -> set[str]:
        return {row["name"] for row in self.home.json("snapshot", "list", LAB)}

    def _remove(self, name: str) -> None:
        self._no_bug(self.home.must("down", name))
        self._gone(name)

    def _gone(self, name: str) -> None:
        if name == LAB:
            self._forget()
        if left := self.home.leaks(name):
            raise AssertionError(f"left: {left}")

    def _forget(self) -> None:
        self.up, self.mark, self.snapshots = False, "", {}

    def _begin_again(self) -> None:
        """After a round that went wrong the next ones begin with nothing."""
        for name in (LAB, OTHER):
            self.home.run("down", name)
        self.home.run("gc")
        self._forget()


def line(made: Round) -> str:
    """A row of the table."""
    killed = f"{made.by:<9}{made.killed:7.2f}" if made.killed is not None else f"{'ended':>16}"
    verdict = "ok" if not made.wrong else "WRONG: " + made.wrong.splitlines()[0][:150]
    return f"{made.number:4}  {made.command:<17}{killed}  {made.recovered:<7}{made.seconds:7.1f}  {verdict}"


HEAD = "   #  command          by             at  then   seconds"


def summary(rounds: list[Round]) -> str:
    """Kills and wrong rounds of each command."""
    killed = Counter(r.command for r in rounds if r.killed is not None)
    wrong = Counter(r.command for r in rounds if r.wrong)
    rows = [f"{command:<18}{killed[command]:4} killed{wrong[command]:4} wrong" for command in sorted(killed | wrong)]
    return "\n".join([*rows, f"{'all':<18}{sum(killed.values()):4} killed{sum(wrong.values()):4} wrong"])


def torture(directory: Path, rounds: int, seed: int, show: Callable[[Round], None]) -> list[Round]:
    """So many rounds, on a disk of their own below a directory."""
    with small_disk(directory) as disk:
        home = Home(disk / "home")
        try:
            return Torture(home, disk, random.Random(seed)).run(rounds, show)
        finally:
            home.clear()


def main() -> int:
    """Torture from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--home", type=Path, default=Path("/var/lib/labctl-torture"))
    wanted = parser.parse_args()
    where = wanted.home.resolve()
    print(f"seed {wanted.seed}, home below {where}\n{HEAD}", flush=True)
    rounds = torture(where, wanted.rounds, wanted.seed, lambda r: print(line(r), flush=True))
    print(summary(rounds))
    wrong = [r for r in rounds if r.wrong]
    for made in wrong:
        print(f"\nround {made.number}, {made.command}, killed {made.killed}, then {made.recovered}:\n{made.wrong}")
    if not wrong:
        shutil.rmtree(where)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
