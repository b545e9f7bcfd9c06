"""Logs: journal and files of all nodes in one order, of running, stopped and cut-off nodes alike, secrets hidden."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from support import IDENTITY, specify, write

from labctl import __main__, bases, drivers
from labctl.drivers.fake import Fake
from labctl.errors import BrokenLabError, LabError
from labctl.lab import logs
from labctl.lab.logs import Line, belongs, file_lines, journal_lines, sections, stamp
from labctl.records.lab import Lab

AT = datetime(2026, 11, 21, 9, 21, 44, tzinfo=UTC).timestamp()
EAST = timezone(timedelta(hours=2))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    driver = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", driver)
    return driver


@pytest.fixture
def lab(fake: Fake, tmp_path: Path) -> Lab:
    """A lab of two running machines in memory, of which one is called ``data`` and one ``api``."""
    path = write(tmp_path, IDENTITY)
    state = Lab.create(specify(path), path)
    state.ensure_secrets({"ADMIN_PASS"})
    for node in state.spec.nodes:
        fake.create(state, node)
        fake.start(state, node)
    return state


def keep(fake: Fake, lab: Lab, node: str, name: str, text: str) -> None:
    """Write a log file of a node."""
    path = fake.boxes[(lab.id, node)].root / "var/log" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


# --- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("2026-11-21 09:21:44.000 654 INFO nova [-] up", "654 INFO nova [-] up"),
        ("2026-11-21 09:21:44.000000+00:00 [info] <0.1105.0> up", "[info] <0.1105.0> up"),
        ("2026-11-21T09:21:44Z up", "up"),
        ("2026-11-21  9:21:44 0 [Note] up", "0 [Note] up"),
        ("2026/11/21 09:21:44 [2256] rsyncd up", "[2256] rsyncd up"),
        ("2026-11-21 11:21:44.000+0200: 77: info : up", ": 77: info : up"),
    ],
)
def test_a_time_at_the_beginning_is_read_and_taken_off(text: str, rest: str) -> None:
    assert stamp(text, UTC) == (AT, rest)


@pytest.mark.parametrize(
    "text",
    [
        "[Sat Nov 21 09:21:44.000000 2026] [wsgi:error] [pid 3286] up",
        "[pid: 831|app: 0|req: 99/99] 10.0.0.11 () {32 vars in 475 bytes} [Sat Nov 21 09:21:44 2026] POST /v3",
        '127.0.0.1 - - [21/Nov/2026:11:21:44 +0200] "GET /horizon/ HTTP/1.1" 200',
    ],
)
def test_a_time_within_a_line_is_read_and_left(text: str) -> None:
    assert stamp(text, UTC) == (AT, text)


def test_a_time_without_a_zone_is_the_node_s() -> None:
    assert stamp("2026-11-21 11:21:44 x", EAST)[0] == AT
    assert stamp("[Sat Nov 21 11:21:44 2026] x", EAST)[0] == AT
    assert stamp("2026-11-21 09:21:44Z x", EAST)[0] == AT


@pytest.mark.parametrize("text", ["", "Traceback (most recent call last):", "version 2026-11", "2026-99-99 09:00:00 x"])
def test_what_is_no_time_is_none(text: str) -> None:
    assert stamp(text, UTC)[0] in (None, 0.0)


def test_since_is_an_age_or_a_time() -> None:
    now = time.time()
    assert logs.since(None) is None
    for text, age in (("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86400)):
        assert (logs.since(text) or 0) == pytest.approx(now - age, abs=5)
    assert logs.since("2026-11-21T09:21:44+00:00") == AT
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    assert logs.since("00:00") == midnight
    with pytest.raises(LabError, match="--since yesterday is not valid"):
        logs.since("yesterday")


# --- lines -----------------------------------------------------------------------------------------


def test_lines_without_a_time_have_that_of_the_line_before() -> None:
    text = "begin\n2026-11-21 09:21:44 ERROR\nTraceback:\n  File x\n2026-11-21 09:21:45 INFO\n"
    lines = list(file_lines("n", "f", 7.0, text, UTC))
    assert [line.at - AT for line in lines] == [0, 0, 0, 0, 1]
    assert [line.text for line in lines] == ["begin", "ERROR", "Traceback:", "  File x", "INFO"]
    assert [line.at for line in file_lines("n", "f", 7.0, "no time\nat all\n", UTC)] == [7.0, 7.0]


def test_journal_entries_of_several_lines_are_one() -> None:
    text = (
        "1795252870.970193 controller nova-compute[654]: first\n"
        "                                                second: with a colon\n"
        "-- Boot 645cf0bb504416ccaff09a51a55a0462 --\n"
        "1795252871.5 controller systemd[1]: Started nova-api.service.\n"
    )
    first, second = journal_lines("controller", text)
    assert (first.at, first.source) == (1795252870.970193, "nova-compute")
    assert [line.strip() for line in first.text.splitlines()] == ["first", "second: with a colon"]
    assert second == Line(1795252871.5, "controller", "systemd", "Started nova-api.service.")


@pytest.mark.parametrize(
    ("path", "unit", "is_its"),
    [
        ("nova/nova-api.log", "nova-api", True),
        ("nova/nova-api-metadata.log", "nova-api", False),
        ("nova/nova-api.log", "nova-compute", False),
        ("neutron/l3-agent.log", "neutron-l3-agent", True),
        ("nova/nova-api.log", "openstack-nova-api.service", True),
        ("rabbitmq/rabbit@controller.log", "rabbitmq-server", True),
        ("rabbitmq/rabbit@controller.log", "mariadb", False),
        ("apache2/error.log", "apache2", True),
        ("libvirt/qemu/instance-00000001.log", "libvirtd", True),
        ("memcached.log", "memcached", True),
        ("keystone/keystone.log", "keystone", True),
        ("fontconfig.log", "nova-api", False),
    ],
)
def test_files_belong_to_units(path: str, unit: str, is_its: bool) -> None:
    known = [u for units in bases.get("debian12", "debian").units.values() for u in units]
    assert belongs(path, unit, known) is is_its


@pytest.mark.parametrize(
    ("service", "units"),
    [
        ("nova-api", ("nova-api", "nova-api-metadata")),
        ("cinder", ("cinder-api", "cinder-scheduler", "cinder-volume")),
        ("rabbitmq-server", ("rabbitmq-server",)),
        ("anything", ()),
    ],
)
def test_a_daemon_a_project_and_a_unit_are_units(service: str, units: tuple[str, ...], lab: Lab) -> None:
    assert logs.units(lab, service) == units


def test_sections_are_told_apart() -> None:
    text = "##section zone\t+0200\n##section journal\t\na\nb\n\n##section nova/x.log\t7\n##sections are not heads\n"
    assert sections(text) == {
        "zone": ("+0200", ""),
        "journal": ("", "a\nb\n"),
        "nova/x.log": ("7", "##sections are not heads\n"),
    }
    assert sections("sh: not found") == {}


# --- labs ------------------------------------------------------------------------------------------


def test_lines_of_all_nodes_are_in_one_order_and_without_secrets(lab: Lab, fake: Fake) -> None:
    password = lab.secrets()["ADMIN_PASS"].reveal()
    keep(fake, lab, "api", "keystone/keystone.log", f"{iso(AT)} one\n{iso(AT + 2)} three {password}\n")
    keep(fake, lab, "data", "mysql/error.log", f"{iso(AT + 1)} two\n")
    keep(fake, lab, "data", "wtmp", "binary")
    lines = logs.collect(lab, lab.spec.nodes, None, None)
    assert [(line.node, line.source, line.text) for line in lines] == [
        ("api", "keystone/keystone.log", "one"),
        ("data", "mysql/error.log", "two"),
        ("api", "keystone/keystone.log", "three ***"),
    ]


def test_since_leaves_out_older_lines_and_files(lab: Lab, fake: Fake) -> None:
    now = time.time()
    keep(fake, lab, "api", "keystone/keystone.log", f"{iso(now - 3600)} old\n{iso(now - 10)} new\n")
    keep(fake, lab, "api", "dull.log", "no times\n")
    os.utime(fake.boxes[(lab.id, "api")].root / "var/log/dull.log", (now - 3600, now - 3600))
    assert [line.text for line in logs.collect(lab, ["api"], now - 60, None)] == ["new"]


def test_a_service_is_chosen_by_its_project_s_name(lab: Lab, fake: Fake) -> None:
    for name in ("keystone/keystone.log", "nova/nova-api.log", "nova/nova-compute.log"):
        keep(fake, lab, "api", name, f"{iso(AT)} {name}\n")
    assert [line.text for line in logs.collect(lab, ["api"], None, "nova-api")] == ["nova/nova-api.log"]
    assert [line.text for line in logs.collect(lab, ["api"], None, "keystone")] == ["keystone/keystone.log"]


def test_nodes_that_do_not_answer_are_read_from_their_disks(lab: Lab, fake: Fake) -> None:
    for node in ("api", "data"):
        keep(fake, lab, node, "x.log", f"{iso(AT)} of {node}\n")
    fake.stop(lab, "api", 0)
    fake.pause(lab, "data")
    assert [line.text for line in logs.collect(lab, lab.spec.nodes, None, None)] == ["of data", "of api"]


def test_a_node_that_cannot_be_read_does_not_hide_the_others(
    lab: Lab, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(fake, lab, "api", "x.log", f"{iso(AT)} here\n")
    seen = fake.files

    def files(state: Lab, node: str) -> Path | None:
        return None if node == "data" else seen(state, node)

    monkeypatch.setattr(fake, "files", files)
    fake.stop(lab, "data", 0)
    assert [line.text for line in logs.collect(lab, lab.spec.nodes, None, None)] == ["here"]
    with pytest.raises(BrokenLabError, match="data of identity is not running, and its disk cannot be read"):
        logs.collect(lab, ["data"], None, None)


def test_following_gives_each_line_once(lab: Lab, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FOLLOW_EVERY", 0.05)
    now = time.time()
    text = f"{iso(now)} one\n{iso(now)} one\n"
    keep(fake, lab, "api", "x.log", text)
    rounds = logs.follow(lab, lab.spec.nodes, now - 60, None)
    assert [line.text for line in next(rounds)] == ["one", "one"]
    keep(fake, lab, "api", "x.log", text + f"{iso(now)} one\n")
    keep(fake, lab, "data", "y.log", f"{iso(time.time())} two\n")
    assert sorted(line.text for line in next(rounds)) == ["one", "two"]


# --- the command -----------------------------------------------------------------------------------


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["labctl", *words])
        with pytest.raises(SystemExit) as left:
            __main__.run()
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return run


def test_the_command_prints_lines_or_json(labctl, lab: Lab, fake: Fake) -> None:
    keep(fake, lab, "api", "keystone/keystone.log", f"{iso(AT)} [b]one[/b]\n")
    keep(fake, lab, "data", "mysql/error.log", f"{iso(AT + 1)} two\n")
    status, out, _ = labctl("logs", "identity")
    assert status == 0
    assert [line.split(" ", 2)[2] for line in out.splitlines()] == [
        "api keystone/keystone.log: [b]one[/b]",
        "data mysql/error.log: two",
    ]
    rows = json.loads(labctl("logs", "identity", "data", "-o", "json")[1])
    assert [(r["node"], r["source"], r["text"]) for r in rows] == [("data", "mysql/error.log", "two")]
    assert datetime.fromisoformat(rows[0]["time"]).timestamp() == AT + 1
    assert "[b]one[/b]" in labctl("logs", "identity", "keystone")[1]


def test_unknown_nodes_and_labs_are_named_with_the_known_ones(labctl, lab: Lab) -> None:
    assert "identity has no node 'web'; it has data, api" in labctl("logs", "identity", "web")[2]
    assert "there is no lab named 'nope'" in labctl("logs", "nope")[2]
    assert labctl("logs", "identity", "--since", "soon")[0] == 1


# --- real machines ---------------------------------------------------------------------------------


@pytest.mark.system
def test_the_journal_of_a_container_is_read_while_it_runs_and_after_it_died(containers: Lab) -> None:
    driver = drivers.get("nspawn")
    began = time.time() - 1
    with driver.connect(containers, "first", 60) as session:
        session.run(
            "logger -t probe 'a line of the journal'; echo \"$(date '+%F %T') a line\" >/var/log/probe.log", timeout=20
        )
        session.run("systemctl start memcached; journalctl --sync", timeout=60)

    def seen(service: str | None) -> set[tuple[str, str]]:
        return {(x.source, x.text) for x in logs.collect(containers, ["first"], began, service)}

    wanted = {("probe", "a line of the journal"), ("probe.log", "a line")}
    assert wanted <= seen(None)
    of_unit = seen("memcached")
    assert any("Started memcached.service" in text for _, text in of_unit)
    assert not wanted & of_unit

    driver.stop(containers, "first", 0)
    assert wanted <= seen(None)
