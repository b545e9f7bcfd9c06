"""OpenStack's own Tempest: install it, run it against a lab, and record its results."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from labctl import releases
from labctl.components import Component
from labctl.errors import LabError
from labctl.host import files, paths, process, proxy
from labctl.host.namespace import Inside
from labctl.images import python as interpreters
from labctl.images import retry
from labctl.images.pip import Told
from labctl.images.venv import constraints
from labctl.lab import logs
from labctl.nightly import facts, tempest_conf
from labctl.nightly.history import History
from labctl.nightly.matrix import Cell
from labctl.nightly.run import artefacts, terminated
from labctl.nightly.tempest_choice import Chosen
from labctl.progress import every, note, step, warn
from labctl.records import access, cloud
from labctl.records.lab import Lab
from labctl.releases.model import Release
from labctl.testing import junit

#: Seconds for pip, and for the conversion of the results.
INSTALL, CONVERT = 1800, 120
#: Seconds between two progress notes; the line that Tempest prints when a test has finished.
TOLD = 30
ENDED = re.compile(r"\{\d+\} (?P<test>.+?) (\[[\d.]+s\] )?\.\.\. (?P<outcome>ok|FAILED|SKIPPED)")
#: Installed with it: the converter of its results.
BESIDES = ("junitxml",)


@dataclass(frozen=True)
class Result:
    """Result of a Tempest run; ``report`` is the JUnit file."""

    run: int
    cases: list[junit.Case]
    report: Path
    status: int
    late: bool
    seconds: float

    def count(self, outcome: str) -> int:
        """How many tests passed, failed or were skipped."""
        return sum(case.outcome == outcome for case in self.cases)

    def reasons(self) -> dict[str, int]:
        """Why tests were skipped, and how many for each reason; the most frequent first."""
        said = Counter(junit.first_line(case.message) for case in self.cases if case.outcome == "skipped")
        return dict(said.most_common())

    @property
    def good(self) -> bool:
        """True when tests ran and none failed."""
        bad = self.count("failed") or (self.status and not self.count("known"))
        return not bad and not self.late and self.count("passed") > 0


# --- installing ------------------------------------------------------------------------------------


def environment(release: Release) -> Path:
    """The virtual environment with the release's Tempest, created if needed.

    Tempest of an old release runs on the interpreter of that release.

    :raises LabError: no interpreter fits, or pip failed; names its log.
    """
    if release.pypi is not None and release.from_pypi:
        found = interpreters.find(release.pypi.python, f"the Tempest of {release.title}")
        program, minor = found.executable, found.minor
    else:
        program, minor = Path(sys.executable).resolve(), f"{sys.version_info[0]}.{sys.version_info[1]}"
    limits = _limits(release, minor)
    wanted = [*release.tempest, *BESIDES]
    digest = hashlib.sha256(json.dumps([wanted, limits, minor, str(program)]).encode()).hexdigest()[:12]
    target = paths.home() / "tempest" / f"{release.name}-{digest}"
    files.make_directories(target.parent)
    with files.appended(target.with_suffix(".lock"), 0o644) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (target / "whole").exists():  # start over after a killed installation
            files.remove(target)
            with step("tempest", f"install {release.tempest[0]} for Python {minor}"):
                _install(program, target, wanted, limits)
    return target


def _limits(release: Release, minor: str) -> str:
    """The release's upper constraints, where labctl has them and the release names no libraries for its Tempest."""
    file = Path(releases.__file__).parent / "constraints" / f"{release.name}.txt"
    own = file.exists() and len(release.tempest) == 1
    return constraints(file.read_text(), minor, release.tempest) if own else ""


def _install(program: Path, target: Path, wanted: list[str], limits: str) -> None:
    process.run([program, "-I", "-m", "venv", target], timeout=300)
    files.write_atomic(target / "constraints.txt", limits)
    log = target.with_suffix(".log")
    pip, limited = target / "bin" / "pip", target / "constraints.txt"
    command: list[str | Path] = [pip, "install", "--disable-pip-version-check", "-c", limited, *wanted]
    retry.again(
        lambda: process.run(
            command,
            timeout=INSTALL,
            env={**os.environ, **proxy.variables()},
            log=log,
            name="pip install",
            listener=Told("tempest").listener,
        )
    )
    # a library too new for it hides the command: "'run' is not a tempest command"
    process.run([target / "bin" / "python", "-c", "import tempest.cmd.run"], timeout=CONVERT, name="Tempest's import")
    files.write_atomic(target / "whole", "")


# --- running ---------------------------------------------------------------------------------------


def run(name: str, chosen: Chosen, workers: int, timeout: float) -> Result:
    """Run Tempest inside a lab's network and record the outcome of each test in the history.

    :param timeout: seconds for the tests.
    :raises LabError: the lab is broken, Tempest cannot be installed, or it exited without a result.
    """
    lab = Lab.load(name)
    api = access.load(name)
    release = releases.get(api.release)
    if chosen.file is not None and not chosen.file.is_file():
        raise LabError(f"there is no file {chosen.file}")
    venv = environment(release)
    with ExitStack() as borrowed:
        borrowed.enter_context(terminated())
        inside = borrowed.enter_context(Inside(lab.namespace, lab.hosts_file))
        history = borrowed.enter_context(History())
        inside.call(cloud.check, api)
        seen = inside.call(tempest_conf.look, api)
        if lab.spec.has(Component.SWIFT_PROXY) and inside.call(tempest_conf.lend_role, api):
            borrowed.callback(inside.call, tempest_conf.return_role, api)
        number, attempt, where = _begin(history, lab)
        work = where / "tempest"
        conf, disk = work / "etc" / "tempest.conf", work / "image.qcow2"
        try:
            process.run([venv / "bin" / "tempest", "init", work], timeout=CONVERT, env=_variables(venv, where))
            files.erase(conf, within=work)
            inside.call(tempest_conf.fetch_image, api, seen, disk)
            files.write_atomic(conf, tempest_conf.configuration(lab, api, release, seen, disk, work), 0o600)
            return _judge(history, number, attempt, lab, venv, work, chosen, workers, timeout)
        except LabError as error:
            row = history.cells(number)[0]
            if row["state"] != "done":
                history.update_attempt(attempt, outcome="error", message=error.message, ended=time.time())
                ended = {"state": "done", "outcome": "error", "message": error.message, "ended": time.time()}
                history.update_cell(row["id"], **ended)
            raise
        finally:
            files.erase(conf, within=work)  # it holds a password
            files.erase(disk, within=work)
            history.end_run(number)


def _variables(venv: Path, home: Path) -> dict[str, str]:
    """Tempest's environment. It registers its workspaces in the home directory, under names that must be unique."""
    kept = {k: v for k, v in process.without_proxies().items() if not k.startswith("OS_")}
    return {**kept, "HOME": str(home), "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}


def _begin(history: History, lab: Lab) -> tuple[int, int, Path]:
    spec = lab.spec
    cell = Cell(
        name=f"tempest-{lab.name}",
        topology=spec.topology,
        release=spec.release,
        base=spec.base,
        driver=spec.driver,
        select=("tempest",),
    )
    run_facts = facts.run_facts()
    number = history.begin_run([cell], kind="tempest", **run_facts)
    row = history.cells(number)[0]
    history.update_cell(row["id"], lab=lab.name, state="running", step="tempest", began=time.time())
    attempt = history.begin_attempt(row["id"], 1, run_facts["git_commit"])
    images = facts.images(lab.name)
    sources = facts.sources(lab.name)
    hashed = facts.inputs(cell, run_facts["source"], images, sources)
    history.update_attempt(attempt, images=json.dumps(images), inputs=hashed, sources=json.dumps(sources))
    where = artefacts(history, number) / cell.name
    files.make_directories(where)
    return number, attempt, where


def _judge(
    history: History,
    number: int,
    attempt: int,
    lab: Lab,
    venv: Path,
    work: Path,
    chosen: Chosen,
    workers: int,
    timeout: float,
) -> Result:
    where, report = work.parent, work.parent / "junit.xml"
    words = [str(venv / "bin" / "tempest"), "run", *chosen.words, "--concurrency", str(workers)]
    # Tempest looks for its workspace in the working directory
    inside = ["ip", "netns", "exec", lab.namespace, "env", "--chdir", str(work), *words]
    with (
        step("tempest", " ".join(["run", *chosen.words, "--concurrency", str(workers)])),
        files.appended(where / "tempest.out", 0o644) as log,
    ):
        child = process.start(inside, log=log, env=_variables(venv, where))
        ended = process.follow(child, timeout=timeout, watch=Teller(where / "tempest.out"))
    cases = marked(_results(venv, work, report, lab), releases.get(lab.spec.release))
    result = Result(number, cases, report, ended.status, ended.late, ended.seconds)
    outcome = "passed" if result.good else "timeout" if ended.late else "failed"
    failed = [case.name for case in cases if case.outcome == "failed"]
    message = "" if result.good else f"{len(failed)} of {len(cases)} tests failed:\n" + "\n".join(failed[:20])
    history.record_tests(attempt, [replace(c, outcome="skipped") if c.outcome == "known" else c for c in cases])
    history.record_stage(attempt, "tempest", outcome, ended.seconds, ended.cpu_seconds)
    history.record_artefacts(attempt, {report: "junit", where / "tempest.out": "log"})
    bad = "" if result.good else "tempest"
    history.update_attempt(attempt, outcome=outcome, message=message, bad_stage=bad, ended=time.time())
    row = history.cells(number)[0]
    history.update_cell(row["id"], state="done", outcome=outcome, message=message, bad_stage=bad, ended=time.time())
    if not cases:
        raise LabError(f"Tempest exited with status {ended.status} and no result", f"less {where / 'tempest.out'}")
    return result


def marked(cases: list[junit.Case], release: Release) -> list[junit.Case]:
    """The tests, with known failures of the release marked; warns of a known failure that passed."""
    found = []
    for case in cases:
        why = next((why for test, why in release.tempest_known.items() if case.name.startswith(test)), "")
        if why and case.outcome == "passed":
            warn("tempest", f"passed, although it is a known failure ({why}): {case.name}")
        found.append(replace(case, outcome="known", message=why) if why and case.outcome == "failed" else case)
    return found


class Teller:
    """Reports progress from Tempest's output: each failed test at once, the counts from time to time."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._read, self._rest = 0, ""
        self._counts: Counter[str] = Counter()
        self._due = every(TOLD)

    def __call__(self) -> None:
        with self._output.open() as handle:
            handle.seek(self._read)
            *lines, self._rest = (self._rest + handle.read()).split("\n")
            self._read = handle.tell()
        for line in lines:
            if ended := ENDED.match(line):
                self._counts[ended["outcome"]] += 1
                if ended["outcome"] == "FAILED":
                    warn("tempest", f"failed: {ended['test']}")
        if self._counts and self._due():
            note("tempest", ", ".join(f"{count} {outcome}" for outcome, count in sorted(self._counts.items())))


def _results(venv: Path, work: Path, report: Path, lab: Lab) -> list[junit.Case]:
    """The tests of the last run in a workspace, from its result stream; secrets are redacted in the JUnit file."""
    convert = '"$1" last --subunit | "$2" -o "$3"'
    programs = [venv / "bin" / "stestr", venv / "bin" / "subunit2junitxml"]
    raw = work / "junit.raw"
    process.run(
        ["sh", "-c", convert, "sh", *programs, raw],
        timeout=CONVERT,
        cwd=work,
        check=False,
        env=_variables(venv, work.parent),
    )
    if not raw.exists() or not raw.stat().st_size:
        return []
    files.write_atomic(report, logs.redactor(lab)(raw.read_text(errors="replace")))
    files.erase(raw, within=work)
    return [case for case in junit.read(report) if case.name != "process-returncode"]
