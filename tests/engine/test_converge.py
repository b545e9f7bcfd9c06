"""The engine with machines in memory: what a second `up` does, and what it does after a failure."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from apis import Apis
from support import IDENTITY, ROOT, SMALL, specify, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.engine.capacity import check_resources
from labctl.engine.converge import Engine, Summary
from labctl.errors import BrokenLabError, DeadlineError, LabError
from labctl.host import threads
from labctl.host.ssh import Result, Session
from labctl.images.guest import GuestImage
from labctl.operations.node import Copy
from labctl.progress import Event, subscribed
from labctl.records import access
from labctl.records.lab import Lab
from labctl.topology.spec import LabSpec
from labctl.topology.stages import STAGES


@pytest.fixture
def apis(monkeypatch: pytest.MonkeyPatch) -> Apis:
    return Apis.instead(monkeypatch)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", made)
    return made


def no_guest() -> GuestImage:
    raise AssertionError("no stage of this lab needs a guest image")


def make(tmp_path: Path, text: str) -> Lab:
    path = write(tmp_path, text)
    return Lab.create(specify(path), path)


def change(lab: Lab, tmp_path: Path, text: str) -> None:
    lab.spec = specify(write(tmp_path, text))
    lab.save()


def up(lab: Lab, driver: Fake, until: str = "verify") -> Summary:
    """Every time a new engine on state read from disk, as a new process would."""
    driver.stages.clear()
    return Engine(Lab.load(lab.name), no_guest).up(until)


def names(summary: Summary) -> list[str]:
    return [s.name for s in summary.stages]


def test_up_makes_machines_and_runs_every_stage_on_its_nodes(tmp_path: Path, driver: Fake, apis: Apis) -> None:
    lab = make(tmp_path, IDENTITY)
    summary = up(lab, driver)

    assert names(summary) == list(STAGES)
    assert summary.skipped == []
    assert all(driver.machine(lab, n).running for n in ("data", "api"))
    assert lab.id in driver.networks
    assert {s for s in driver.stages if s[0].startswith("keystone")} == {
        ("keystone", "data"),
        ("keystone-after", "api"),
    }
    assert driver.stages.index(("keystone", "data")) < driver.stages.index(("keystone-after", "api"))
    assert apis.asked[0] == "project service"
    assert [s.name for s in lab.journal().stages] == list(STAGES)


def test_every_machine_that_cannot_be_made_is_told(
    tmp_path: Path, driver: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(lab: Lab, node: str) -> None:
        raise LabError(f"{node} has no disk")

    monkeypatch.setattr(driver, "create", create)
    with pytest.raises(LabError) as raised:
        up(make(tmp_path, SMALL), driver)
    assert raised.value.message == "first has no disk\nsecond has no disk"


def test_nodes_that_do_not_answer_are_all_told_and_no_session_is_left_open(tmp_path: Path, driver: Fake) -> None:
    lab = make(tmp_path, SMALL)
    up(lab, driver)
    opened = len(driver.sessions)
    driver.boxes[(lab.id, "second")].paused = True
    with pytest.raises(DeadlineError, match="second: SSH timed out"):
        up(lab, driver)
    assert [session.where for session in driver.sessions[opened:]] == ["first"]
    assert all(session.closed for session in driver.sessions)

    driver.boxes[(lab.id, "first")].paused = True
    with pytest.raises(DeadlineError, match=r"first: SSH timed out .*\nsecond: SSH timed out"):
        up(lab, driver)


def test_a_lab_without_its_namespace_is_broken_and_that_is_no_bug(tmp_path: Path, driver: Fake) -> None:
    lab = make(tmp_path, IDENTITY.replace("name: identity", f"name: identity-{os.getpid()}"))
    with pytest.raises(BrokenLabError, match=f"the network namespace of the lab {lab.name} does not exist") as raised:
        up(lab, driver)
    assert raised.value.hint == f"labctl repair {lab.name}"


def test_a_second_up_looks_and_changes_nothing(tmp_path: Path, driver: Fake, apis: Apis) -> None:
    lab = make(tmp_path, IDENTITY)
    up(lab, driver)
    journal = [(s.name, s.finished) for s in lab.journal().stages if s.name != "verify"]
    apis.asked.clear()

    summary = up(lab, driver)

    assert names(summary) == ["verify"]
    assert summary.skipped == [s for s in STAGES if s != "verify"]
    assert driver.stages == [("verify-after", "api")]  # which looks for its record
    assert apis.asked == ["catalog answers: identity"]
    assert [(s.name, s.finished) for s in lab.journal().stages if s.name != "verify"] == journal


def test_up_resumes_at_the_stage_that_failed(tmp_path: Path, driver: Fake) -> None:
    lab = make(tmp_path, SMALL)
    driver.failures["start mariadb"] = "no space left on device"

    with pytest.raises(LabError) as raised:
        up(lab, driver)
    assert "stage sql, first: 'start mariadb' failed" in raised.value.message
    assert "no space left on device" in raised.value.message
    assert raised.value.hint == "labctl ssh small first"
    assert [s.name for s in lab.journal().stages] == ["machines", "prepare", "packages"]

    driver.failures.clear()
    summary = up(lab, driver)
    assert summary.skipped == ["machines", "prepare", "packages"]
    assert names(summary) == ["sql", "infrastructure"]
    assert driver.stages[0] == ("sql", "first")
    assert sorted(driver.stages[1:]) == [("infrastructure", "first"), ("infrastructure", "second")]


def test_what_a_failed_stage_had_done_already_is_not_done_again(tmp_path: Path, driver: Fake) -> None:
    lab = make(tmp_path, SMALL)
    driver.failures["start memcached"] = "broken"
    with pytest.raises(LabError):
        up(lab, driver)
    driver.failures.clear()

    record = up(lab, driver).stages[0]

    assert record.name == "sql"
    assert record.ok > record.changed > 0


def test_a_failure_on_two_nodes_tells_of_both(tmp_path: Path, driver: Fake) -> None:
    lab = make(tmp_path, SMALL)
    driver.failures["start chrony"] = "no clock"
    with pytest.raises(LabError) as raised:
        up(lab, driver)
    assert "infrastructure, first: 'start chrony'" in raised.value.message
    assert "infrastructure, second: 'start chrony'" in raised.value.message


def test_up_resumes_after_an_api_that_failed(tmp_path: Path, driver: Fake, apis: Apis) -> None:
    lab = make(tmp_path, IDENTITY)
    apis.failure = "project service"
    with pytest.raises(LabError, match="HTTP 503"):
        up(lab, driver)
    assert {"keystone", "catalog"} & {s.name for s in lab.journal().stages} == {"keystone"}

    apis.failure = ""
    assert names(up(lab, driver))[0] == "catalog"


def test_changed_input_runs_again_from_the_first_stage_it_changes(tmp_path: Path, driver: Fake, apis: Apis) -> None:
    lab = make(tmp_path, IDENTITY)
    up(lab, driver)
    change(lab, tmp_path, IDENTITY + "options: {workers: 3}\n")

    summary = up(lab, driver)

    assert summary.skipped == ["machines", "prepare", "packages", "sql", "infrastructure"]
    assert names(summary)[0] == "keystone"
    assert names(summary)[-1] == "verify"
    assert up(lab, driver).skipped == [s for s in STAGES if s != "verify"]


def test_a_changed_password_runs_again_where_it_is_used(tmp_path: Path, driver: Fake, apis: Apis) -> None:
    lab = make(tmp_path, IDENTITY)
    up(lab, driver)
    change(lab, tmp_path, IDENTITY + "passwords: {keystone_dbpass: another-one}\n")
    assert names(up(lab, driver))[0] == "keystone"


def test_up_stops_after_the_stage_it_was_told(tmp_path: Path, driver: Fake) -> None:
    lab = make(tmp_path, SMALL)
    assert names(up(lab, driver, until="packages")) == ["machines", "prepare", "packages"]
    assert [s.name for s in lab.journal().stages] == ["machines", "prepare", "packages"]
    assert names(up(lab, driver)) == ["sql", "infrastructure"]


def test_until_machines_runs_nothing_on_them(tmp_path: Path, driver: Fake) -> None:
    lab = make(tmp_path, SMALL)
    assert names(up(lab, driver, until="machines")) == ["machines"]
    assert driver.stages == []


def test_a_machine_that_stopped_is_started_and_every_stage_is_looked_at_again(tmp_path: Path, driver: Fake) -> None:
    lab = make(tmp_path, SMALL)
    up(lab, driver)
    driver.stop(lab, "second", 1)

    summary = up(lab, driver)

    assert driver.machine(lab, "second").running
    assert names(summary) == ["machines", "prepare", "packages", "sql", "infrastructure"]
    assert [s.changed for s in summary.stages] == [1, 0, 0, 0, 0]


def test_connections_are_closed_whatever_happens(tmp_path: Path, driver: Fake) -> None:
    lab = make(tmp_path, SMALL)
    driver.failures["start mariadb"] = "broken"
    with pytest.raises(LabError):
        up(lab, driver)
    assert len(driver.sessions) == 2
    assert all(s.closed for s in driver.sessions)


def test_stages_and_failures_are_told_as_events(tmp_path: Path, driver: Fake) -> None:
    lab = make(tmp_path, SMALL)
    driver.failures["start mariadb"] = "broken"
    events: list[Event] = []
    with subscribed(events.append), pytest.raises(LabError):
        up(lab, driver)
    told = [(e.kind.value, e.text) for e in events]
    assert ("end", "packages") in told
    assert told[-1] == ("fail", "sql")


def test_credentials_are_written_before_anything_runs_and_only_for_their_owner(
    tmp_path: Path, driver: Fake, apis: Apis
) -> None:
    lab = make(tmp_path, IDENTITY)
    up(lab, driver, until="machines")
    rc = lab.directory / "access" / "admin-openrc"
    assert rc.stat().st_mode & 0o777 == 0o600
    assert access.environment(lab)["OS_AUTH_URL"] == "http://api:5000/v3"
    assert access.environment(lab, "demo")["OS_PASSWORD"] == lab.secrets()["DEMO_PASS"].reveal()


def test_a_lab_without_keystone_has_no_credentials_and_says_so(tmp_path: Path, driver: Fake) -> None:
    lab = make(tmp_path, SMALL)
    up(lab, driver)
    with pytest.raises(LabError, match="small has no credentials for 'admin'"):
        access.environment(lab)


def test_the_guest_image_is_fetched_outside_the_namespace_and_once(tmp_path: Path, driver: Fake, apis: Apis) -> None:
    path = ROOT / "topologies" / "zed-2node.yaml"
    spec = specify(path)
    small = {n: node.model_copy(update={"memory": 2**20}) for n, node in spec.nodes.items()}
    lab = Lab.create(spec.model_copy(update={"nodes": small}), path)
    guest = object()
    fetched: list[bool] = []

    def fetch() -> GuestImage:
        fetched.append(apis.inside)
        return guest  # type: ignore[return-value]

    Engine(lab, fetch).up()

    assert fetched == [False]
    assert [g for g in apis.guests if g is not None] == [guest]
    assert "image cirros" in apis.asked


# --- room ------------------------------------------------------------------------------------------


def with_memory(spec: LabSpec, memory: int) -> LabSpec:
    return spec.model_copy(
        update={"nodes": {n: node.model_copy(update={"memory": memory}) for n, node in spec.nodes.items()}}
    )


def test_a_lab_that_does_not_fit_is_refused_before_anything_is_made(tmp_path: Path, driver: Fake) -> None:
    path = write(tmp_path, SMALL)
    lab = Lab.create(with_memory(specify(path), 2**50), path)
    with pytest.raises(LabError) as raised:
        up(lab, driver)
    assert "of memory (first " in raised.value.message
    assert "labctl down NAME" in raised.value.hint
    assert driver.boxes == {}
    assert driver.networks == set()


def test_machines_that_run_already_need_no_more_room(tmp_path: Path) -> None:
    spec = with_memory(specify(write(tmp_path, SMALL)), 2**50)
    check_resources(spec, set(spec.nodes), tmp_path)
    with pytest.raises(LabError, match="second"):
        check_resources(spec, {"first"}, tmp_path)


def test_disks_that_could_never_be_filled_are_refused(tmp_path: Path) -> None:
    text = SMALL.replace("    memory: 512 MiB\n", "    memory: 512 MiB\n    disks: {big: 900000 GiB}\n", 1)
    with pytest.raises(LabError, match="the nodes' additional disks need "):
        check_resources(specify(write(tmp_path, text)), set(), tmp_path)


# --- interrupted -----------------------------------------------------------------------------------


def test_an_interruption_does_not_wait_for_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threads, "wait", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            threads.side_by_side(lambda node: go_on.wait(60), ["first", "second"])
        assert not go_on.is_set()
    finally:
        go_on.set()


def test_an_up_that_ends_while_machines_start_leaves_no_record_of_their_stages(
    tmp_path: Path, driver: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make(tmp_path, SMALL)
    up(lab, driver)
    driver.stop(lab, "second", 1)

    def killed(lab: Lab, node: str) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(driver, "start", killed)
        with pytest.raises(SystemExit):
            up(lab, driver)
    driver.start(lab, "second")  # what the killed process had still begun

    assert names(up(lab, driver)) == ["prepare", "packages", "sql", "infrastructure"]


# --- copies ----------------------------------------------------------------------------------------


class Shelf(Session):
    """A node that knows files and the three commands of a copy."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.received = files, 0

    def run(
        self, command: str, *, timeout: float, stdin: bytes = b"", on_line: Callable[[str], None] | None = None
    ) -> Result:
        if command.startswith("sha256sum"):
            wanted = command.split(" 2>")[0].split()[1:]
            there = [p for p in wanted if p in self.files]
            lines = [f"{hashlib.sha256(self.files[p]).hexdigest()}  {p}\n" for p in there]
            return Result(0 if there == wanted else 1, "".join(lines), "")
        if command.startswith("tar"):
            return Result(0, json.dumps({p: c.decode() for p, c in self.files.items()}), "")
        self.received += 1
        self.files.update({p: c.encode() for p, c in json.loads(stdin).items()})
        return Result(0, "", "")


RINGS = ("/etc/swift/account.ring.gz", "/etc/swift/object.ring.gz")


def copying(tmp_path: Path, driver: Fake, **shelves: Shelf) -> list[str]:
    engine = Engine(make(tmp_path, SMALL), driver, no_guest)
    engine._sessions = {**shelves}
    return engine.copy((Copy(RINGS, "proxy", tuple(n for n in shelves if n != "proxy")),))


def test_a_copy_goes_only_where_the_files_differ(tmp_path: Path, driver: Fake) -> None:
    rings = dict.fromkeys(RINGS, b"ring")
    proxy, same, old, bare = Shelf({**rings}), Shelf({**rings}), Shelf({**rings, RINGS[0]: b"older"}), Shelf({})

    states = copying(tmp_path, driver, proxy=proxy, same=same, old=old, bare=bare)

    assert states == ["ok", "changed", "changed"]
    assert [s.received for s in (same, old, bare)] == [0, 1, 1]
    assert old.files == bare.files == rings


def test_a_copy_of_files_that_their_source_does_not_have_fails(tmp_path: Path, driver: Fake) -> None:
    with pytest.raises(LabError, match="files are missing on proxy") as raised:
        copying(tmp_path, driver, proxy=Shelf({RINGS[0]: b"ring"}), storage=Shelf({RINGS[0]: b"ring"}))
    assert raised.value.hint == "labctl ssh small proxy"


def test_a_copy_that_did_not_arrive_names_its_target(tmp_path: Path, driver: Fake) -> None:
    full = Shelf(Forgetful())
    with pytest.raises(LabError, match="storage: the files differ"):
        copying(tmp_path, driver, proxy=Shelf(dict.fromkeys(RINGS, b"ring")), storage=full)


class Forgetful(dict[str, bytes]):
    """A full disk that says nothing."""

    def update(self, *_: object, **__: object) -> None:
        """Keep nothing."""
