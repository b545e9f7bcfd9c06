"""Expired labs are removed whole, whatever state they are in; what somebody works on or has renewed is left."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commandline import Labctl
from support import planned, specify, write

from labctl.drivers.fake import Fake
from labctl.engine.converge import Engine, no_guest
from labctl.host import process
from labctl.lab import expiry, gc, snapshot
from labctl.lab.down import remains
from labctl.progress import Event, Kind, subscribed
from labctl.records import lease
from labctl.records.directory import exists, names
from labctl.records.lab import Lab, begin_removal

HOLDER = """
import sys, time
from labctl.records.lab import locked
with locked(sys.argv[1], "labctl test"):
    print("held", flush=True)
    time.sleep(60)
"""

Make = Callable[..., Lab]


@pytest.fixture
def make(tmp_path: Path, fake: Fake) -> Make:
    def made(name: str, ttl: str | None = None, up: bool = True) -> Lab:
        path = write(tmp_path)
        lab = Lab.create(specify(path, name=name), path, lease.Terms.given("anna", ttl))
        if up:
            Engine(lab, no_guest).up()
        return lab

    return made


def over(lab: Lab) -> Lab:
    """Its lease has ended."""
    lab.meta[lease.LEASE] = lease.granted(-10).model_dump()
    lab.save()
    return lab


@contextmanager
def held(home: Path, name: str) -> Iterator[process.subprocess.Popen[bytes]]:
    """Another labctl works on a lab."""
    log = home / "out"
    with log.open("wb") as sink:
        running = process.start([sys.executable, "-c", HOLDER, name], log=sink)
    try:
        deadline = time.monotonic() + 20
        while "held" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield running
    finally:
        running.kill()
        running.wait()


def test_an_expired_lab_is_removed_whole_and_others_stay(make: Make, labctl: Labctl, fake: Fake) -> None:
    over(make("old"))
    snapshot.create(Lab.load("old"), "ready")
    make("new", "8h")
    make("kept")

    assert labctl("gc")[0] == 0
    assert names() == ["kept", "new", "old"], "without --expired no lab is touched"
    status, out, _ = labctl("gc", "--expired")

    assert (status, names(), remains("old")) == (0, ["kept", "new"], [])
    assert "expired lab old" in out
    assert "removed 1 expired labs, 0 leftovers" in out
    assert {lab for lab, _ in fake.boxes} == {Lab.load("new").id, Lab.load("kept").id}


def test_what_would_be_removed_is_listed(make: Make, labctl: Labctl, fake: Fake) -> None:
    old = over(make("old"))
    old.layer("9").mkdir()
    status, out, _ = labctl("gc", "--expired", "--dry-run", "-o", "json")
    said = json.loads(out)
    assert (status, said["removed"], said["held"]) == (0, False, [])
    assert [(f["kind"], f["name"]) for f in said["found"]] == [("expired lab", "old")], "its layers go with it"
    assert f"directory {old.directory}" in said["found"][0]["parts"]
    assert all(fake.machine(old, node).running for node in old.spec.nodes)


def test_what_a_kill_left_half_made_or_half_removed_goes_too(make: Make, labctl: Labctl) -> None:
    over(make("half-made", up=False))
    over(make("half-removed"))
    begin_removal("half-removed")
    assert labctl("gc", "--expired")[0] == 0
    assert (names(), remains("half-made"), remains("half-removed")) == ([], [], [])


def test_a_removal_that_was_killed_goes_on(make: Make, labctl: Labctl, monkeypatch: pytest.MonkeyPatch) -> None:
    old = over(make("old"))

    def killed(directory: Path) -> bool:
        shutil.rmtree(directory / "layers")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("labctl.lab.down.remove_directory", killed)
        assert labctl("gc", "--expired")[0] == 130
    assert not exists("old")
    assert old.directory.exists()
    assert labctl("gc", "--expired")[0] == 0
    assert remains("old") == []


def test_a_lab_that_a_command_works_on_is_left_and_said(make: Make, labctl: Labctl, home: Path) -> None:
    over(make("old"))
    with held(home, "old") as running:
        status, out, _ = labctl("gc", "--expired")
        assert (status, names()) == (0, ["old"])
        said = f"old has expired and is left, because a command works on it: pid {running.pid}: labctl test"
        assert said in out
        status, out, _ = labctl("gc", "--expired", "-o", "json")
        assert json.loads(out)["held"] == [{"name": "old", "holder": f"pid {running.pid}: labctl test"}]
    assert labctl("gc", "--expired")[0] == 0
    assert names() == []


def test_one_that_is_taken_or_renewed_meanwhile_is_left_and_said(make: Make, home: Path) -> None:
    over(make("taken"))
    over(make("renewed"))
    found, _ = expiry.find()
    lease.renew(Lab.load("renewed"), lease.Terms.given(None, "1h"))
    events: list[Event] = []
    with held(home, "taken"), subscribed(events.append):
        assert gc.remove(found) == []
    assert names() == ["renewed", "taken"]
    warned = " ".join(event.text for event in events if event.kind is Kind.WARN)
    assert "renewed was renewed meanwhile; it is left" in warned
    assert "taken is being changed by" in warned


def test_labs_of_another_home_are_never_touched(
    make: Make, labctl: Labctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    over(make("old"))
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "other"))
    status, out, _ = labctl("gc", "--expired")
    assert (status, "no leftovers in" in out) == (0, True)
    monkeypatch.undo()


def test_a_lab_that_cannot_be_read_is_left(make: Make) -> None:
    (over(make("old")).directory / "lab.json").write_text("{")
    assert expiry.find() == ([], [])


# --- the commands that show and renew --------------------------------------------------------------


def test_list_status_and_info_show_owner_and_lease(make: Make, labctl: Labctl) -> None:
    make("new", "8h")
    over(make("old"))
    make("kept")
    rows = {row["name"]: row for row in json.loads(labctl("list", "-o", "json")[1])}
    assert [(name, row["owner"], row["expires"]) for name, row in rows.items()] == [
        ("kept", "anna", "-"),
        ("new", "anna", "in 8.0 h"),
        ("old", "anna", "expired"),
    ]
    assert rows["kept"]["expires_at"] is None
    assert abs(rows["new"]["expires_at"] - time.time() - 8 * 3600) < 60
    status = json.loads(labctl("status", "new", "-o", "json")[1])
    assert (status["owner"], status["expires"]) == ("anna", "in 8.0 h")
    assert abs(status["expires_at"] - rows["new"]["expires_at"]) <= 1
    assert "owner anna, expires in 8.0 h (20" in labctl("status", "new")[1]
    assert "owner        anna, expires in 8.0 h (20" in labctl("info", "new")[1]
    assert "anna, does not expire" in labctl("info", "kept")[1]
    assert "anna, expired since 20" in labctl("info", "old")[1]


def test_up_records_renews_and_takes_away(tmp_path: Path, fake: Fake, labctl: Labctl) -> None:
    path = write(tmp_path)
    assert labctl("up", path, "--ttl", "8h", "--owner", "otto")[0] == 0
    found = Lab.load("small")
    assert lease.owner(found) == "otto"
    assert 8 * 3600 - 60 < (lease.left(found) or 0) <= 8 * 3600

    ran = list(fake.stages)
    for words in (["small"], [path]):  # by the name of the lab or of its topology: nothing else is done
        status, out, _ = labctl("up", *words, "--ttl", "4h")
        assert (status, fake.stages) == (0, ran)
        assert "small: owner otto, expires in 4.0 h (20" in out
    assert labctl("up", "small", "--ttl", "never")[0] == 0
    assert lease.left(Lab.load("small")) is None


def test_a_lab_that_is_not_up_is_brought_up_with_the_lease(tmp_path: Path, fake: Fake, labctl: Labctl) -> None:
    path = write(tmp_path)
    assert labctl("up", path, "--until", "prepare")[0] == 0
    assert labctl("up", path, "--ttl", "4h")[0] == 0
    assert Lab.load("small").journal().stages[-1].name == "infrastructure"
    fake.stop(Lab.load("small"), "first", 0)
    assert labctl("up", path, "--ttl", "6h")[0] == 0
    assert fake.machine(Lab.load("small"), "first").running
    assert (lease.left(Lab.load("small")) or 0) > 5 * 3600


def test_a_failed_up_leaves_a_lab_that_expires(tmp_path: Path, fake: Fake, labctl: Labctl) -> None:
    path = write(tmp_path)
    fake.failures.update(dict.fromkeys(_titles(path), "broken"))
    assert labctl("up", path, "--ttl", "8h")[0] == 1
    assert (lease.left(Lab.load("small")) or 0) > 7 * 3600


def _titles(path: Path) -> list[str]:
    """The last operations on a node."""
    return [o.title for stage in planned(specify(path)).stages for o in stage.on("first")][-3:]


@pytest.mark.parametrize("words", [["--ttl", "1.5 days"], ["--ttl=-1h"], ["--ttl", "0"], ["--owner", "a b"]])
def test_wrong_words_are_refused_before_anything_is_made(
    words: list[str], tmp_path: Path, fake: Fake, labctl: Labctl
) -> None:
    status, _, err = labctl("up", write(tmp_path), *words)
    assert (status, names()) == (1, [])
    assert "error: --ttl" in err or "is not an owner's name" in err
    assert "try: use" in err


# --- the timer -------------------------------------------------------------------------------------


def test_the_units_name_this_labctl_and_this_home(tmp_path: Path, labctl: Labctl, home: Path) -> None:
    place = tmp_path / "units"
    place.mkdir()
    status, out, _ = labctl("gc", "--install-timer", place)
    assert (status, "systemctl enable --now labctl-gc.timer" in out) == (0, True)
    service = (place / "labctl-gc.service").read_text()
    assert f"ExecStart={Path(sys.executable).with_name('labctl')} gc --expired\n" in service
    assert f"Environment=LABCTL_HOME={home}\n" in service
    status, _, err = labctl("gc", "--install-timer", tmp_path / "none")
    assert (status, "is not a directory" in err) == (1, True)


@pytest.mark.skipif(process.missing("systemd-analyze") != [], reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / 'a "home" of 100 %h'))
    place = tmp_path / "units"
    place.mkdir()
    written = expiry.install(place)
    done = process.run(["systemd-analyze", "verify", "--recursive-errors=no", *written], check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    (place / "labctl-gc.service").write_text((place / "labctl-gc.service").read_text().replace("oneshot", "once"))
    wrong = process.run(["systemd-analyze", "verify", "--recursive-errors=no", *written], check=False)
    assert "once" in wrong.stderr
