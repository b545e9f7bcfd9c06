"""A diagnosis of labs that are in no state to be diagnosed: something is always said, and nothing is changed."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from apis import Apis
from commandline import Labctl
from keystoneauth1 import exceptions
from support import IDENTITY, SMALL, specify, write

from labctl.diagnose import apis as questions
from labctl.diagnose import expected, report, run
from labctl.diagnose.model import Diagnosis, Finding, Level, Mend
from labctl.diagnose.rows import ROWS
from labctl.drivers.fake import Fake, FakeSession
from labctl.engine.converge import Engine, no_guest
from labctl.errors import BrokenLabError, DeadlineError, LabError
from labctl.host.ssh import Result
from labctl.operations.node import Copy
from labctl.operations.openstack import ComputeHosts, ComputeServiceGone, Grant, User
from labctl.records.lab import Lab, locked

UNIT = "start mariadb"


def made(tmp_path: Path, text: str = SMALL, until: str = "verify") -> Lab:
    path = write(tmp_path, text)
    lab = Lab.create(specify(path), path)
    Engine(lab, no_guest).up(until)
    return Lab.load(lab.name)


def seen(found: Diagnosis) -> list[tuple[str, str]]:
    return [(cause.row.id, cause.where) for cause in found.causes]


def interrupted(monkeypatch: pytest.MonkeyPatch, node: str, error: Exception) -> None:
    """The diagnosis of a node ends with an error after its first three tests and the one of MariaDB's unit."""
    whole = FakeSession.run

    def cut(
        self: FakeSession,
        command: str,
        *,
        timeout: float,
        stdin: bytes = b"",
        on_line: Callable[[str], None] | None = None,
    ) -> Result:
        if not stdin or self.where != node:
            return whole(self, command, timeout=timeout, stdin=stdin, on_line=on_line)
        lines = whole(self, command, timeout=timeout, stdin=stdin).stdout.splitlines()
        for number, line in enumerate(lines):
            if on_line and (number < 3 or "failed" in line or line.startswith("##out")):
                on_line(line)
        raise error

    monkeypatch.setattr(FakeSession, "run", cut)


def test_a_lab_without_keystone_is_asked_nothing_it_cannot_answer(tmp_path: Path, fake: Fake) -> None:
    assert run.diagnose(made(tmp_path)) == Diagnosis(())


def test_what_verify_checks_is_asked_when_verify_failed(tmp_path: Path, fake: Fake, monkeypatch: Any) -> None:
    """Or an agent that is not alive would end `up` and be no finding."""
    Apis.instead(monkeypatch)
    asked: list[Any] = [()]
    monkeypatch.setattr(questions, "ask", lambda _lab, _cloud, operations, _before: asked.append(operations) or [])
    lab = made(tmp_path, IDENTITY, until="catalog")
    *_, before, last = lab.plan.stages
    assert (last.name, bool(last.api)) == ("verify", True)
    run.diagnose(lab)
    assert not set(last.api) & set(asked[-1])
    Engine(lab, no_guest).up(before.name)
    run.diagnose(lab)
    assert set(last.api) <= set(asked[-1])


def test_a_lab_that_is_half_up_is_compared_with_that_half(tmp_path: Path, fake: Fake, monkeypatch: Any) -> None:
    apis = Apis.instead(monkeypatch)
    lab = made(tmp_path, IDENTITY, until="infrastructure")
    assert run.diagnose(lab) == Diagnosis(())
    assert apis.asked == []
    fake.failures["start keystone"] = "is inactive"
    assert run.diagnose(lab) == Diagnosis(())
    fake.failures[UNIT] = "is inactive"
    assert seen(run.diagnose(lab)) == [("A4", "data")]


def test_a_node_that_does_not_answer_is_named_and_the_others_are_looked_at(tmp_path: Path, fake: Fake) -> None:
    lab = made(tmp_path)
    fake.failures[UNIT] = "is inactive"
    fake.boxes[(lab.id, "second")].paused = True
    assert seen(run.diagnose(lab)) == [("M2", "second"), ("A4", "first")]
    fake.stop(lab, "second", 0)
    assert seen(run.diagnose(lab)) == [("M1", "second"), ("A4", "first")]
    fake.stop(lab, "first", 0)
    assert seen(run.diagnose(lab)) == [("M1", "first"), ("M1", "second")]


def test_a_node_that_is_lost_meanwhile_is_named_and_the_others_are_looked_at(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = made(tmp_path)
    fake.failures[UNIT] = "is inactive"
    interrupted(monkeypatch, "second", BrokenLabError("the connection is closed"))
    assert seen(run.diagnose(lab)) == [("M2", "second"), ("A4", "first")]


def test_a_test_without_end_is_named_and_the_others_count(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = made(tmp_path)
    fake.failures[UNIT] = "is inactive"
    interrupted(monkeypatch, "first", DeadlineError("timed out after 120 s"))
    cause, late = run.diagnose(lab).causes
    assert (cause.row.id, late.row.id, late.level) == ("A4", "L6", Level.GUEST)
    assert "gave no result timed out after 120 s" in late.found
    assert " more gave" in late.found


def test_a_test_that_fails_itself_is_a_bug_with_what_it_said_and_the_others_count(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = made(tmp_path)
    fake.failures |= {UNIT: "is inactive", "start memcached": "is strange"}
    judge = expected.found

    def wrong(lab: Lab, node: str, test: expected.Expected, *words: Any) -> Any:
        if test.look.title == "start memcached":
            raise IndexError("list index out of range")
        return judge(lab, node, test, *words)

    monkeypatch.setattr(expected, "found", wrong)
    cause, bug = run.diagnose(lab).causes
    assert (cause.row.id, bug.row.id) == ("A4", "L6")
    assert bug.found == "'start memcached': IndexError: list index out of range; it said: is strange"


def test_a_question_that_fails_itself_is_a_bug_and_the_others_are_asked(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    Apis.instead(monkeypatch)
    lab = made(tmp_path, IDENTITY)

    def wrong(*_: object) -> Any:
        raise TypeError("'NoneType' object is not iterable")

    asked = []
    others = [
        (kind, "nova", wrong if kind is Grant else lambda *words: asked.append(words) or ())
        for kind, _, _ in questions._QUESTIONS
    ]
    monkeypatch.setattr(questions, "_QUESTIONS", others)
    monkeypatch.setattr(Apis, "hurry", lambda self, seconds: None, raising=False)
    (bug,) = run.diagnose(lab).causes
    assert (bug.row.id, bug.where) == ("L6", "api")
    assert bug.found == "the question about Grant: TypeError: 'NoneType' object is not iterable"
    assert any(isinstance(operation, User) for _, _, wanted in asked for operation in wanted)


def test_an_api_that_is_busy_is_asked_again_with_more_time(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    Apis.instead(monkeypatch)
    lab = made(tmp_path, IDENTITY)
    seconds: list[float] = []

    def busy(enough: float) -> Callable[..., Any]:
        def question(*_: object) -> Any:
            if seconds[-1] < enough:
                raise exceptions.ConnectTimeout("timed out")
            return ()

        return question

    monkeypatch.setattr(Apis, "hurry", lambda self, given: seconds.append(given), raising=False)
    monkeypatch.setattr(questions, "_QUESTIONS", [(User, "keystone", busy(60)), (Grant, "nova", busy(10))])
    assert run.diagnose(lab) == Diagnosis(())
    assert seconds == [10, 60, 10]
    seconds.clear()
    fake.failures |= {UNIT: "is inactive"}
    run.diagnose(lab)
    assert seconds == [5, 5]
    fake.failures.clear()
    monkeypatch.setattr(questions, "_QUESTIONS", [(User, "nova", busy(100))])
    assert seen(run.diagnose(lab)) == [("B63", "api")]


def test_one_service_is_looked_at_with_what_it_stands_on(tmp_path: Path, fake: Fake) -> None:
    lab = made(tmp_path)
    fake.failures |= {UNIT: "is inactive", "start etcd": "is inactive"}
    assert ("A4", "first") in seen(run.diagnose(lab, "glance"))
    fake.failures = {"etcd answers": "no"}
    assert all(cause.service == "etcd" for cause in run.diagnose(lab, "glance").causes)


def test_a_snapshot_that_was_just_restored_has_no_findings(tmp_path: Path, fake: Fake, labctl: Labctl) -> None:
    made(tmp_path)
    assert labctl("snapshot", "create", "small", "good")[0] == 0
    assert labctl("snapshot", "restore", "small", "good")[0] == 0
    status, out, _ = labctl("diagnose", "small", "-o", "json")
    assert status == 0
    assert json.loads(out) == {"lab": "small", "done": [], "causes": [], "consequences": [], "hints": []}


def test_beside_a_running_up_it_names_that(tmp_path: Path, fake: Fake, labctl: Labctl) -> None:
    made(tmp_path)
    with locked("small", "labctl up small"):
        status, _, err = labctl("diagnose", "small")
    assert status == 1
    assert "labctl up small" in err


def test_a_time_that_is_none_is_refused(tmp_path: Path, fake: Fake, labctl: Labctl) -> None:
    made(tmp_path)
    status, _, err = labctl("diagnose", "small", "--since", "yesterday")
    assert status == 1
    assert "--since yesterday is not valid; use 10m, 2h, 09:30 or 2026-01-31" in err


# --- for what reports a failure --------------------------------------------------------------------


def test_a_report_has_the_findings_in_words_and_as_data(tmp_path: Path, fake: Fake) -> None:
    lab = made(tmp_path)
    fake.failures[UNIT] = "is inactive"
    told = report.report(lab.name)
    assert told.text.startswith("A4  database does not answer (first, mariadb)\n")
    data = json.loads(told.members()["findings.json"])
    assert report.first(data) == f"A4 database does not answer (first, mariadb): {data['causes'][0]['found']}"
    assert told.members()["findings.txt"] == f"{told.text}\n"


def test_a_report_that_fails_or_has_no_time_says_so(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = made(tmp_path)
    monkeypatch.setattr(report, "diagnose", lambda *_: time.sleep(20))
    assert report.report(lab.name, seconds=0.1).text == "(no diagnosis: timed out after 0.1 s)"
    monkeypatch.setattr(report, "diagnose", lambda *_: 1 / 0)
    failed = report.report(lab.name)
    assert failed.text == "(no diagnosis: ZeroDivisionError: division by zero)"
    assert json.loads(failed.members()["findings.json"])["failure"] == "ZeroDivisionError: division by zero"
    assert "no lab" in report.report("nowhere").text


def test_each_fix_has_time_to_show(tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = made(tmp_path)
    first = Finding(ROWS["A4"], Level.DATABASE, "first", "mariadb", "stopped", "start it", Mend("first"))
    slow = Finding(ROWS["L9"], Level.AGENT, "api", "nova", "another host", "remove it")
    known = replace(slow, mend=Mend("first"))
    looks = iter(([first], [slow], [known], [known], []))
    clock = [0.0]

    def looked(*_: object) -> Diagnosis:
        clock[0] += 40
        return Diagnosis.of(next(looks))

    did: list[tuple[Finding, ...]] = []
    monkeypatch.setattr(run, "diagnose", looked)
    monkeypatch.setattr(run, "_mend", lambda lab, causes: did.append(causes) or ["done"])
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda seconds: None))
    done, left = run.mended(lab, seconds=90)
    assert (done, left.causes) == (["done", "done"], ())
    assert [cause.row.id for (cause,) in did] == ["A4", "L9"]


def test_a_fix_that_fails_is_said_and_does_not_end_the_others(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    apis = Apis.instead(monkeypatch)
    lab = made(tmp_path, IDENTITY)

    def stage(session: object, name: str, node: str, *_: object) -> None:
        if node == "data":
            raise LabError("'restart nova-scheduler' failed")

    monkeypatch.setattr(run, "run_stage", stage)
    broken, other = (
        Finding(ROWS["B63"], Level.SERVICE, node, "nova", "is inactive", "start it", Mend(node, restart=("x",)))
        for node in ("data", "api")
    )
    copy, user = Copy(("/etc/x",), "data", ("api",)), User("glance", "GLANCE_PASS")
    stale, gone = replace(broken, mend=Mend(copies=(copy,))), replace(broken, mend=Mend(api=(user,)))
    apis.failure = user.title
    done = run._mend(lab, (broken, other, stale, gone))
    missing = "files are missing on data"
    assert done == [
        "not done: data: 'restart nova-scheduler' failed",
        "api: restart x",
        f"not done: {copy.title}: {missing}",
        f"not done: api: {user.title}: HTTP 503",
    ]


class Services:
    """An API that knows these compute services, and the seconds that each request was given."""

    def __init__(self, *services: dict[str, Any]) -> None:
        self.services, self.given = services, list[float]()

    def hurry(self, seconds: float) -> None:
        self.given.append(seconds)

    def get(self, service: str, path: str) -> dict[str, Any]:
        return {"services": self.services, "servers": []}


def test_a_compute_service_of_no_node_is_deleted_once_it_is_down(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    Apis.instead(monkeypatch)
    lab = made(tmp_path, IDENTITY)
    up = {"binary": "nova-compute", "host": "data", "status": "enabled", "state": "up", "id": 1}
    wanted = (ComputeHosts(("data",)),)
    stale = {**up, "host": "old; x", "id": 6}
    (running,) = questions.ask(lab, Services(up, stale), wanted)  # type: ignore[arg-type]
    words = shlex.split(running.fix)
    assert (running.row.id, words[:5], running.mend) == ("L9", ["labctl", "exec", "identity", "--", "sh"], None)
    listed = "openstack compute service list --service nova-compute --host 'old; x' -f value -c ID"
    assert words[5:] == ["-c", f"openstack compute service delete $({listed})"]
    (down,) = questions.ask(lab, Services(up, {**stale, "state": "down"}), wanted)  # type: ignore[arg-type]
    assert down.fix == "labctl diagnose identity --fix"
    assert down.mend == Mend(api=(ComputeServiceGone("old; x"),))


def test_servers_without_a_host_are_found_where_a_list_has_no_faults(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    Apis.instead(monkeypatch)
    lab = made(tmp_path, IDENTITY)
    flavor = {"vcpus": 1, "ram": 1048576, "disk": 1}
    host = {"status": "enabled", "state": "up", "vcpus": 2, "memory_mb": 4096, "local_gb": 20}
    no_host = {"code": 500, "message": "No valid host was found. "}
    answers: dict[str, dict[str, Any]] = {
        "/os-services": {"services": [{"binary": "nova-compute", "host": "data", "status": "enabled", "state": "up"}]},
        "/servers/detail?all_tenants=1&status=ERROR": {
            "servers": [
                {"id": "1", "name": "far", "flavor": flavor},
                {"id": "2", "name": "near", "flavor": flavor, "fault": no_host},
                {"id": "3", "name": "other", "flavor": flavor, "fault": {"message": "Build failed"}},
                {"id": "4", "name": "silent", "flavor": flavor},
            ]
        },
        "/servers/1": {"server": {"id": "1", "name": "far", "flavor": flavor, "fault": no_host}},
        "/servers/4": {"server": {"id": "4", "name": "silent", "flavor": flavor}},
        "/os-hypervisors/detail": {"hypervisors": [host]},
        "/flavors/detail?is_public=None": {"flavors": []},
    }
    cloud = Services()
    monkeypatch.setattr(cloud, "get", lambda service, path: answers[path])
    found = questions.ask(lab, cloud, (ComputeHosts(("data",)),))  # type: ignore[arg-type]
    assert [(f.row.id, f.found.partition(":")[0]) for f in found] == [
        ("B21", "no host for the server far"),
        ("B21", "no host for the server near"),
    ]
    assert all("1048576 MiB of memory" in f.found for f in found)


def test_a_line_of_a_log_makes_no_question_short(tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    Apis.instead(monkeypatch)
    lab = made(tmp_path, IDENTITY)
    up = {"binary": "nova-compute", "host": "data", "status": "enabled", "state": "up", "id": 1}
    for level, seconds in ((Level.LOG, 10), (Level.SERVICE, 5)):
        before = Finding(ROWS["B63"], level, "data", "nova", "x", "y")
        cloud = Services(up)
        assert questions.ask(lab, cloud, (ComputeHosts(("data",)),), [before]) == []  # type: ignore[arg-type]
        assert set(cloud.given) == {seconds}
