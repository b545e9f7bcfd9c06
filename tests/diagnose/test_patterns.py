"""Hints of logs: which lines count, what of them is shown, and what they may not claim."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support import IDENTITY, specify, write

from labctl.diagnose import patterns
from labctl.diagnose.expected import owners
from labctl.diagnose.model import Diagnosis, Finding, Level
from labctl.diagnose.patterns import CALM, LOOK_BACK, MENDED, PATTERNS, Search, Window
from labctl.diagnose.rows import ROWS
from labctl.drivers.fake import Fake
from labctl.operations.look import FUNCTIONS
from labctl.operations.script import prelude
from labctl.records.journal import Journal, StageRecord
from labctl.records.lab import Lab
from labctl.secret import Redactor

BY_ID = {pattern.row.id: pattern for pattern in PATTERNS}
NOW = time.time()


@pytest.fixture(autouse=True)
def _now() -> None:
    """A test's own time, not that of the import."""
    global NOW
    NOW = time.time()


#: Lines as the daemons write them, by the row that they are a hint of.
LINES = {
    "C1": "2026-11-29 10:11:12.123 7 ERROR oslo_db (pymysql.err.OperationalError) (1040, 'Too many connections')",
    "C3": "2026-11-29 10:11:12.123 7 ERROR oslo_db.exception.DBConnectionError: (pymysql.err.OperationalError) (2003",
    "C4": "2026-11-29 10:11:12.123 [error] <0.1> PLAIN login refused: user 'openstack' - invalid credentials",
    "C5": "2026-11-29 10:11:12.123 7 ERROR oslo.messaging (0, 0): (403) ACCESS_REFUSED - Login was refused",
    "C6": "2026-11-29 10:11:12.123 7 ERROR oslo.messaging AMQP server on controller:5672 is unreachable: ECONNREFUSED",
    "C16": "2026-11-29 10:11:12.123 7 ERROR nova.conductor NoValidHost: No valid host was found.",
    "C22": "2026-11-29 10:11:12.123 7 ERROR neutron Tunneling can't be enabled with invalid local_ip '10.0.1.9'",
    "C25": "2026-11-29 10:11:12.123 7 ERROR cinder Volume Group cinder-volumes does not exist",
    "C29": "1764410000.5 object1 object-server[7]: STDERR: /srv/node/sdb is not mounted",
}


@pytest.fixture
def lab(tmp_path: Path, fake: Fake) -> Lab:
    path = write(tmp_path, IDENTITY)
    return Lab.create(specify(path), path)


def stamped(age: float, text: str) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW - age)) + f".123 7 {text}"


def said(directory: Path, search: Search, boot: float = 3600) -> list[str]:
    """What the search says of the logs below a directory, on a node that was started some seconds ago."""
    started = time.strftime("%a %Y-%m-%d %H:%M:%S %Z", time.gmtime(NOW - boot)).replace("GMT", "UTC")
    text = f"{prelude()}\n{FUNCTIONS.read_text()}\nsystemctl() {{ echo 'UserspaceTimestamp={started}'; }}\n"
    text += f"journalctl() {{ cat {directory}/journal; }}\nlook_it() {{ {search.shell()}\n}}\nlook_it\n"
    script = directory / "program.sh"
    script.write_text(text.replace("/var/log/", f"{directory}/"))
    done = subprocess.run(["sh", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    assert done.returncode == (1 if done.stdout else 0)
    return done.stdout.replace(f"{directory}/", "").splitlines()


def hints(lab: Lab, directory: Path, search: Search, boot: float = 3600) -> list[Finding]:
    return list(patterns.found(lab, "api", search, said(directory, search, boot), Redactor(["hidden-secret"])))


def searching(service: str, begin: float | None = None, calm: float = 0) -> Search:
    chosen = tuple(pattern for pattern in PATTERNS if service in pattern.services)
    return Search(service, chosen, ("unit",), Window(NOW - 600 if begin is None else begin, calm))


def log(directory: Path, name: str, *lines: str) -> None:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("row", LINES)
def test_a_line_of_a_daemon_is_of_its_row_and_its_time_is_known(lab: Lab, tmp_path: Path, row: str) -> None:
    service = BY_ID[row].services[0] if row not in ("C1", "C3", "C5", "C6") else "nova"
    search = searching(service, begin=0)
    if service == "swift":
        (tmp_path / "journal").write_text(LINES[row] + "\n")
    else:
        log(tmp_path, f"{service}/{service}.log", "nothing of note", LINES[row], "  more of it")
    (hint,) = hints(lab, tmp_path, search)
    assert hint.row.id == row
    assert " at 2026-11-29 10:11:12" in hint.found or " at 2025-11-29 " in hint.found
    assert hint.level is Level.LOG


def test_the_time_of_an_old_rabbitmq_is_in_the_line_before(lab: Lab, tmp_path: Path) -> None:
    log(
        tmp_path,
        "rabbitmq/rabbit@data.log",
        "=ERROR REPORT==== 29-Nov-2026::10:11:12 ===",
        "PLAIN: invalid credentials",
    )
    (hint,) = hints(lab, tmp_path, searching("rabbitmq", begin=0))
    assert "2026-11-29 10:11:12" in hint.found


def test_the_newest_line_of_each_pattern_counts_and_only_in_the_window(lab: Lab, tmp_path: Path) -> None:
    log(tmp_path, "nova/nova-api.log", stamped(900, "MessagingTimeout a"), stamped(300, "is not mapped to any cell b"))
    log(tmp_path, "nova/nova-compute.log", stamped(200, "is not mapped to any cell c"), stamped(100, "well"))
    (hint,) = hints(lab, tmp_path, searching("nova"))
    assert hint.row.id == "C17"
    assert hint.found.startswith("nova/nova-compute.log at ")
    assert hint.found.endswith("is not mapped to any cell c")
    assert hints(lab, tmp_path, searching("nova", begin=NOW - 150)) == []


def test_lines_of_a_node_s_start_do_not_count(lab: Lab, tmp_path: Path) -> None:
    log(tmp_path, "nova/nova-api.log", stamped(100, "AMQP server on controller:5672 is unreachable"))
    assert hints(lab, tmp_path, searching("nova", calm=CALM), boot=200) == []
    assert len(hints(lab, tmp_path, searching("nova", calm=CALM), boot=400)) == 1
    assert hints(lab, tmp_path, searching("nova", calm=CALM), boot=20) == []


def test_a_file_that_nobody_wrote_since_is_not_read_and_of_others_only_the_end(lab: Lab, tmp_path: Path) -> None:
    line = stamped(100, "is not mapped to any cell")
    log(tmp_path, "nova/nova-api.log", line)
    os.utime(tmp_path / "nova/nova-api.log", (NOW - 900, NOW - 900))
    log(tmp_path, "nova/nova-compute.log", line, *["x" * 1000] * 2200)
    assert hints(lab, tmp_path, searching("nova")) == []


def test_secrets_are_hidden_and_of_a_long_line_the_part_that_matched_is_shown(lab: Lab, tmp_path: Path) -> None:
    line = stamped(5, f"rabbit://openstack:hidden-secret@data {'x' * 900} hidden-secret MessagingTimeout {'y' * 9000}")
    log(tmp_path, "nova/nova-api.log", line, stamped(4, "url rabbit://openstack:guess@data Failed, ACCESS_REFUSED"))
    long, short = sorted(hints(lab, tmp_path, searching("nova")), key=lambda hint: -len(hint.found))
    assert "*** MessagingTimeout yyy" in long.found
    assert len(long.found) < 400
    assert "guess" not in short.found
    assert "hidden" not in long.found + short.found


def test_expressions_mean_the_same_to_grep_and_to_python() -> None:
    for row, line in LINES.items():
        assert re.search(BY_ID[row].words, line)
    assert not any(set(r"\wd") & set(re.findall(r"\\(.)", pattern.words)) for pattern in PATTERNS)


def test_rows_of_patterns_are_their_own_and_hint_at_rows_that_exist() -> None:
    assert len(BY_ID) == len(PATTERNS)
    assert not BY_ID.keys() & ROWS.keys()
    assert all(row in ROWS for pattern in PATTERNS for row in pattern.row.of)


def test_a_node_s_logs_are_those_of_what_runs_on_it(lab: Lab) -> None:
    window, known = Window(NOW), owners(lab.context)
    searched = {node: patterns.of_node(lab.context, lab.spec.nodes[node], known, window) for node in lab.spec.nodes}
    assert [search.service for search in searched["data"]] == ["mariadb"]
    assert [search.service for search in searched["api"]] == ["keystone"]
    assert searched["data"][0].units == ("mariadb",)


# --- what a hint may claim -------------------------------------------------------------------------


def hint(row: str, service: str, where: str = "controller") -> Finding:
    return Finding(BY_ID[row].row, Level.LOG, where, service, "nova/nova-api.log at …", "labctl logs lab")


PROOF = Finding(ROWS["A24"], Level.AGENT, "api", "neutron", "an agent is not alive", "fix")


def test_a_hint_comes_after_every_proof_and_under_one_of_the_same_cause() -> None:
    heat, binding, other = hint("C31", "heat"), hint("C18", "nova"), hint("C20", "neutron")
    found = Diagnosis.of([heat, binding, other, PROOF])
    assert found.causes == (PROOF,)
    assert set(found.consequences) == {binding, other}  # of a row of its own; of its service
    assert found.hints == (heat,)
    lines = "\n".join(found.lines())
    assert lines.index(PROOF.row.id) < lines.index(heat.row.id)
    assert "perhaps: the stack domain's admin is not set" in lines


def test_what_everything_stands_on_explains_all_hints() -> None:
    database = Finding(ROWS["A4"], Level.DATABASE, "controller", "mariadb", "down", "fix")
    assert Diagnosis.of([hint("C31", "heat"), database]).hints == ()


def test_ordinary_lines_are_hints_only_beside_a_proof_or_when_asked_for() -> None:
    ordinary, telling = hint("C16", "nova"), hint("C17", "nova")
    window = Window(NOW)
    assert patterns.counting([ordinary, telling], window) == [telling]
    assert patterns.counting([ordinary, PROOF], window) == [ordinary, PROOF]
    assert patterns.counting([ordinary], replace(window, asked=True)) == [ordinary]


def test_nothing_counts_from_before_the_lab_was_ready_or_mended(lab: Lab) -> None:
    def at(*stages: tuple[str, float]) -> Window:
        lab.save_journal(Journal([StageRecord(name, "", NOW - age, 1, 1, 0, 0) for name, age in stages]))
        return Window.of(lab, None)

    assert at(("configure", 9000)).begin == pytest.approx(time.time() - LOOK_BACK, abs=5)
    assert at(("configure", 60)).begin == pytest.approx(NOW - 60, abs=1)  # the stage that fails now began then
    assert at(("configure", 90), ("verify", 60)).begin == pytest.approx(NOW - 60 + CALM, abs=1)
    (lab.directory / MENDED).write_text("")
    assert at(("configure", 9000)).begin == pytest.approx(time.time() + CALM, abs=5)
    assert Window.of(lab, NOW - 5000) == Window(NOW - 5000, 0, asked=True)
