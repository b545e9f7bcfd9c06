"""Hand damaged and hostile files to labctl, and look that it only ever refuses them.

    python tests/security/fuzz.py -n 10000 [--seed 7] [--case 123] [--kind topology]

Each case changes one file that a user can hand over (topology, nightly.yaml, export, box, media, a lab's state) or puts
something else in its place, and gives it to labctl in a process of its own. What counts as a failure: an error that is
no LabError, more than 5 seconds, more than 300 MB of memory, a file written outside of the home, a program of an
accepted topology with a syntax error. Prints a table; status 1 when any case failed. ``--case`` repeats one. A long run
says every half minute how far it is.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does

import mutations
import targets
from targets import FILE, Kind, Targets

from labctl import __main__
from labctl.commands.wanted import Wanted
from labctl.errors import LabError
from labctl.operations.script import program
from labctl.plan.planner import plan
from labctl.secret import MARK
from labctl.services.base import Context

DEADLINE = 5.0
GROWTH = 300 * 2**20
#: More cases than this, and the seconds between two lines about how far they are.
LONG, AGAIN = 500, 30.0
TICKS = os.sysconf("SC_CLK_TCK")
#: Of the accepted topologies, the share that shellcheck looks at, and what it leaves to the author.
CHECKED, IGNORED = 10, "SC2016"
OUTCOMES = ("refused", "accepted", "crashed", "hung", "grown", "escaped", "bad program")
FAILED = OUTCOMES[2:]


@dataclass(frozen=True)
class Case:
    """What came of a case."""

    number: int
    kind: str
    what: str
    outcome: str
    seconds: float
    words: str = ""


# --- in the process of a case --------------------------------------------------------------------------


def _used(line: str) -> int:
    found = re.search(rf"^{line}:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _command(words: list[str]) -> int:
    """``labctl WORDS`` in this process; its status."""
    sys.argv = ["labctl", *words]
    try:
        __main__.run()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def _programs(file: Path, to: Path) -> None:
    """Write the programs of a topology."""
    to.mkdir()
    for stage in plan(Context.of(Wanted(str(file)).draft())).stages:
        for when, part in (("first", stage.nodes), ("after", stage.after)):
            for node, items in part.items():
                text = MARK.sub("dummyvalue", program(stage.name, items))
                (to / f"{stage.name}-{when}-{node}.sh").write_text(text)


def _act(kind: Kind, file: Path, case: Path, dice: random.Random) -> str:
    """Run a kind's commands; the outcome."""
    os.setsid()
    # the directory of the report about a bug
    tempfile.tempdir = str(case)
    os.chdir(case)
    os.environ["LABCTL_HOME"] = str(case / "home")
    os.environ["XDG_CACHE_HOME"] = str(case / "home")
    with (case / "output").open("w", errors="backslashreplace") as sink, Path("/dev/null").open() as nothing:
        for number, handle in ((0, nothing), (1, sink), (2, sink)):
            os.dup2(handle.fileno(), number)
    limit = _used("VmData") + GROWTH
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    commands = list(kind.commands)
    if kind.sample:
        commands = [commands[i] for i in sorted(dice.sample(range(len(commands)), kind.sample))]
    statuses = []
    for words in commands:
        print("$ labctl", *words, flush=True)
        statuses.append(_command([str(file) if word == FILE else word for word in words]))
        sys.stdout.flush()
        if bugs := sorted(case.glob("labctl-bug-*.log")):
            raise RuntimeError(bugs[0].read_text())
    if statuses[0] == 0 and kind.programs:
        _programs(file, case / "programs")
    return "accepted" if not any(statuses) else "refused"


def _child(kind: Kind, file: Path, case: Path, dice: random.Random, answer: IO[str]) -> None:
    try:
        outcome, words = _act(kind, file, case, dice), ""
    except MemoryError:
        outcome, words = "grown", traceback.format_exc()
    except LabError as error:
        outcome, words = "refused", error.message
    except BaseException:
        words = traceback.format_exc()
        outcome = "grown" if "MemoryError" in words else "crashed"
    with suppress(BaseException):
        answer.write(json.dumps([outcome, words[-6000:]]))
        answer.flush()
    os._exit(0)


# --- around it -----------------------------------------------------------------------------------------


def _forked(kind: Kind, file: Path, case: Path, seed: str) -> tuple[str, str]:
    """Run a case in a child; its outcome, with what went wrong."""
    with tempfile.TemporaryFile("w+") as answer:
        pid = os.fork()
        if pid == 0:
            _child(kind, file, case, random.Random(seed), answer)
        where = _awaited(pid)
        if where:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        _, _, used = os.wait4(pid, 0)
        answer.seek(0)
        said = answer.read()
    if where:
        return "hung", f"after {used.ru_utime + used.ru_stime:.1f} s of processor time, in {where}"
    if not said:
        return "crashed", "the process died"
    outcome, words = json.loads(said)
    if (grown := used.ru_maxrss * 1024 - BASE) > GROWTH:
        return "grown", f"by {grown >> 20} MiB"
    return outcome, words


def _awaited(pid: int) -> str:
    """Wait for a child until it ends, sleeps for something too long, or worked too long; where it is if it did not end.

    A busy machine is no fault of the child's: it is given time while it or a program of it could run, or waits for the
    disk.
    """
    handle, before, idle = os.pidfd_open(pid), 0.0, 0
    try:
        while not select.select([handle], [], [], DEADLINE / 2)[0]:
            found = list(_session(pid))
            worked = sum(ticks for _, ticks in found) / TICKS
            idle = idle + 1 if all(state == "S" for state, _ in found) and worked < before + 0.05 else 0
            if worked > DEADLINE or idle > 1:
                return Path(f"/proc/{pid}/wchan").read_text() or "no system call"
            before = worked
        return ""
    finally:
        os.close(handle)


def _session(pid: int) -> Iterator[tuple[str, int]]:
    """The state and processor time of the processes of a session, also for those that they waited for."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended
            state, *numbers = path.read_text().rpartition(")")[2].split()
            if int(numbers[2]) == pid:
                yield state, sum(map(int, numbers[10:14]))


#: Memory of the process that the cases are forked from.
BASE = 0


def _bad_programs(place: Path, thorough: bool) -> str:
    """What sh, and shellcheck, say about the programs of a topology."""
    files = sorted(place.glob("*.sh"))
    script = 'for f; do sh -n "$f" || exit 1; done'
    commands = [["sh", "-c", script, "sh", *files]]
    if thorough and files and shutil.which("shellcheck"):
        commands.append(["shellcheck", "-s", "sh", "-e", IGNORED, *files])
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300, check=False)
        except subprocess.TimeoutExpired:  # a busy machine is no fault of the program's
            continue
        if done.returncode:
            return (done.stdout + done.stderr)[:3000]
    return ""


def run_case(seed: int, number: int, directory: Path, all_: Targets, only: str = "", keep: str = "") -> Case:
    """Do one case: the same for the same seed and number.

    :param keep: a file for what labctl printed, and one with ``.input`` for what it was given.
    """
    key = f"{seed}:{number}"
    dice = random.Random(key)
    name = only or all_.choose(dice)
    kind = all_.kinds[name]
    which = dice.choice(list(kind.files))
    # deep enough that ../../escaped is below it
    case = directory / f"case-{number}" / "a" / "b"
    case.mkdir(parents=True)
    began = time.monotonic()
    try:
        targets.bring(kind, all_, case)
        file = case / "home" / which if kind.at_home else case / "files" / which
        changed = _change(kind, which, file, dice)
        what = f"{which} {changed}"
        if keep and changed == "changed":
            Path(f"{keep}.input").write_bytes(file.read_bytes())
        outcome, words = _forked(kind, file, case, key)
        if keep:
            shutil.copyfile(case / "output", keep)
        if outcome in ("accepted", "refused") and (found := _outside(case)):
            outcome, words = "escaped", found
        if outcome == "accepted" and kind.programs:
            bad = _bad_programs(case / "programs", dice.randrange(CHECKED) == 0)
            outcome, words = ("bad program", bad) if bad else (outcome, words)
        return Case(number, name, what, outcome, time.monotonic() - began, words)
    finally:
        shutil.rmtree(case.parents[1], ignore_errors=True)


def _change(kind: Kind, name: str, file: Path, dice: random.Random) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    if dice.random() < 0.05:
        return f"is {mutations.special(file, dice)}"
    file.write_bytes(kind.mutate(kind.files[name], dice))
    return "changed"


def _outside(case: Path) -> str:
    """Files of a case outside of its home that it should not have made."""
    own = {"home", "files", "output", "programs", "rendered"}
    found = [p.name for p in case.iterdir() if p.name not in own and not p.name.startswith("tmp")]
    found += [p.name for place in (case.parent, case.parents[1]) for p in place.iterdir() if p.name not in ("a", "b")]
    return ", ".join(found)


def cases(
    number: int, seed: int, *, only: str = "", processes: int = 2, first: int = 0, keep: str = ""
) -> Iterator[Case]:
    """Do cases, in any order."""
    global BASE
    with tempfile.TemporaryDirectory(prefix="labctl-fuzz-") as place:
        directory = Path(place)
        all_ = targets.prepare(directory)
        BASE = _used("VmRSS")
        context = get_context("fork")
        global _one

        def _one(case: int) -> Case:
            return run_case(seed, case, directory, all_, only, keep)

        with context.Pool(processes) as pool:
            yield from pool.imap_unordered(_one_of, range(first, first + number), chunksize=4)


def _one_of(case: int) -> Case:
    return _one(case)  # type: ignore[no-any-return, name-defined]


def table(done: list[Case]) -> str:
    """Kinds and outcomes."""
    by_kind: dict[str, list[Case]] = defaultdict(list)
    for case in done:
        by_kind[case.kind].append(case)
    rows = [("kind", "cases", *OUTCOMES, "seconds", "longest")]
    for kind, found in [*sorted(by_kind.items()), ("all", done)]:
        counts = Counter(case.outcome for case in found)
        seconds = [case.seconds for case in found]
        rows.append((kind, len(found), *(counts[o] for o in OUTCOMES), f"{sum(seconds):.0f}", f"{max(seconds):.1f}"))
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def fault(case: Case) -> str:
    """What distinguishes one fault from another: the error, and the place in labctl it came from."""
    places = re.findall(r'File "\S*?/(labctl/\S+)", line (\d+), in (\S+)', case.words)
    errors = re.findall(r"^[\w.]+(?:Error|Exception)\b", case.words, re.MULTILINE)
    inner = next((place for place in reversed(places) if place[0] != "labctl/__main__.py"), ("",))
    return " ".join((case.outcome, *inner, errors[-1] if errors else case.words[:60]))


def told(found: Iterable[Case], number: int, clock: Callable[[], float] = time.monotonic) -> Iterator[Case]:
    """The cases; of a long run, how far it is, on standard error."""
    began = due = clock()
    failed = 0
    for done, case in enumerate(found, 1):
        failed += case.outcome in FAILED
        now = clock()
        if number > LONG and now - due >= AGAIN:
            due = now
            left = (now - began) / done * (number - done)
            about = f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min"
            print(f"{done} of {number} cases, {failed} failed, about {about} left", file=sys.stderr, flush=True)
        yield case


def show(case: Case, seed: int, only: str = "") -> str:
    """A failure, and how to repeat it."""
    kind = f" --kind {only!r}" if only else ""
    again = f"python tests/security/fuzz.py --seed {seed} --case {case.number}{kind}"
    return f"{case.outcome}: {case.kind}: {case.what}\n  again: {again}\n{case.words}\n"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-n", type=int, default=1000, help="number of cases")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--case", type=int, help="repeat this one")
    parser.add_argument("--kind", default="", help="only files of this kind")
    parser.add_argument(
        "--keep", default="", metavar="FILE", help="write what a case printed there, its input to FILE.input"
    )
    chosen = parser.parse_args()
    number, first = (1, chosen.case) if chosen.case is not None else (chosen.n, 0)
    began, done, seen = time.monotonic(), list[Case](), Counter[str]()
    print(f"seed {chosen.seed}", flush=True)
    found = cases(number, chosen.seed, only=chosen.kind, first=first, keep=chosen.keep)
    for case in told(found, number):
        done.append(case)
        if case.outcome not in FAILED:
            continue
        if not seen[fault(case)]:
            print(show(case, chosen.seed, chosen.kind), flush=True)
        seen[fault(case)] += 1
    for name, times in seen.most_common():
        print(f"{times:5} × {name}")
    print(f"seed {chosen.seed}, {len(done)} cases in {time.monotonic() - began:.0f} s\n{table(done)}")
    return int(any(case.outcome in FAILED for case in done))


if __name__ == "__main__":
    sys.exit(main())
