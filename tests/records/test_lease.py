"""Whose a lab is and until when: what may be written, and what a clock that jumps does to it."""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path

import pytest
from support import specify, write

from labctl.errors import LabError
from labctl.records import lease
from labctl.records.lab import Lab

HOUR = 3600


class Clocks:
    """This machine's clocks, set by a test: the date, the time since boot, the boot."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.date, self.since, self.boot = 1_800_000_000.0, 500.0, "boot-1"
        monkeypatch.setattr(lease, "_clock", lambda: self.since)
        monkeypatch.setattr(lease, "_boot", lambda: self.boot)
        monkeypatch.setattr(lease, "time", self)

    def time(self) -> float:
        return self.date

    def go_on(self, seconds: float) -> None:
        self.date += seconds
        self.since += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def lab(tmp_path: Path, ttl: str | None = None, owner: str | None = None) -> Lab:
    path = write(tmp_path)
    return Lab.create(specify(path), path, lease.Terms.given(owner, ttl))


def again() -> Lab:
    return Lab.load("small")


# --- what may be written ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 8 * HOUR), ("90min", 5400), ("2 d", 48 * HOUR), ("1.5d", 36 * HOUR), ("45s", 45), ("never", lease.NEVER)],
)
def test_a_length_of_time_has_a_unit(text: str, seconds: int) -> None:
    assert lease.Terms.given(None, text).seconds == seconds


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "0h",
        "0.0d",
        "-1h",
        "8",
        "1.5 days",
        "soon",
        "",
        " ",
        "h",
        "1e3h",
        "nan h",
        "inf",
        "8h\n8h",
        "٨h",
        "0.0001s",
    ],
)
def test_what_is_no_length_of_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(LabError, match="is not a length of time") as raised:
        lease.Terms.given(None, text)
    assert raised.value.hint == "use a number and a unit, 90min, 8h, 1.5d, or never"


@pytest.mark.parametrize("text", ["3651d", "999999999999d", "87601h"])
def test_a_lease_beyond_what_a_calendar_is_good_for_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="is more than ten years") as raised:
        lease.Terms.given(None, text)
    assert raised.value.hint == "use --ttl never"


def test_so_many_digits_are_no_number() -> None:
    with pytest.raises(LabError, match="is not a length of time"):
        lease.Terms.given(None, "9" * 400 + "d")


@pytest.mark.parametrize(
    "name", ["anna", "a", "müller", "anna.b", "anna@example.org", "LAB\\anna", "HOST$", "_apt", "7"]
)
def test_names_that_users_have_are_owners(name: str) -> None:
    assert lease.Terms.given(name, None).owner == name


@pytest.mark.parametrize(
    "name", ["", " ", "anna b", "-x", "a\nb", "\x1b[31m", "a" * 65, "a;b", "a'b", "../a", ".", "a$b"]
)
def test_no_user_has_such_a_name(name: str) -> None:
    with pytest.raises(LabError, match="is not an owner's name"):
        lease.Terms.given(name, None)


def test_by_default_it_is_who_called_sudo_or_who_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    login = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert lease.user() == login
    monkeypatch.setenv("SUDO_USER", "anna")
    assert lease.owner(lab(tmp_path)) == "anna"
    monkeypatch.setenv("SUDO_USER", "\x1b[31m")
    assert lease.user() == login


# --- in the record ---------------------------------------------------------------------------------


def test_it_is_recorded_renewed_and_taken_away(tmp_path: Path, clocks: Clocks) -> None:
    lab(tmp_path, "8h", "anna")
    clocks.go_on(HOUR)
    assert (lease.owner(again()), lease.left(again())) == ("anna", 7 * HOUR)

    lease.renew(again(), lease.Terms.given(None, "4h"))
    assert (lease.owner(again()), lease.left(again())) == ("anna", 4 * HOUR)

    lease.renew(again(), lease.Terms.given("otto", None))
    assert (lease.owner(again()), lease.left(again())) == ("otto", 4 * HOUR)

    lease.renew(again(), lease.Terms.given(None, "never"))
    clocks.go_on(10 * 365 * 24 * HOUR)
    assert (lease.left(again()), lease.expired(again())) == (None, False)


def test_a_lab_without_them_has_none(tmp_path: Path) -> None:
    made = lab(tmp_path)
    del made.meta[lease.OWNER]
    made.save()
    assert (lease.owner(again()), lease.left(again())) == ("", None)


@pytest.mark.parametrize("damaged", ["soon", {"until": 1}, {"until": "nan", "seconds": 1, "boot": "", "began": 0}, [1]])
def test_a_lease_that_labctl_did_not_write_is_a_damaged_record(tmp_path: Path, damaged: object) -> None:
    made = lab(tmp_path)
    made.meta[lease.LEASE] = damaged
    made.save()
    with pytest.raises(LabError, match="cannot be read"):
        again()


# --- clocks ----------------------------------------------------------------------------------------


def test_it_ends_when_its_time_is_over(tmp_path: Path, clocks: Clocks) -> None:
    made = lab(tmp_path, "8h")
    clocks.go_on(8 * HOUR - 1)
    assert not lease.expired(made)
    clocks.go_on(1)
    assert lease.expired(made)


@pytest.mark.parametrize("jump", [-400 * 24 * HOUR, 400 * 24 * HOUR])
def test_a_date_that_jumps_neither_ends_nor_prolongs_it(tmp_path: Path, clocks: Clocks, jump: float) -> None:
    made = lab(tmp_path, "8h")
    clocks.date += jump
    assert lease.left(made) == 8 * HOUR
    clocks.go_on(8 * HOUR)
    assert lease.expired(made)


def test_after_a_reboot_the_date_decides(tmp_path: Path, clocks: Clocks) -> None:
    made = lab(tmp_path, "8h")
    clocks.boot, clocks.since = "boot-2", 10
    clocks.date += 2 * HOUR
    assert lease.left(made) == 6 * HOUR
    clocks.go_on(6 * HOUR)
    assert lease.expired(made)


def test_a_lab_of_the_future_is_kept(tmp_path: Path, clocks: Clocks) -> None:
    """The date was set back over a reboot: it says that the lab has not been made yet."""
    made = lab(tmp_path, "8h")
    clocks.boot, clocks.since = "boot-2", 10
    clocks.date -= 30 * 24 * HOUR
    assert not lease.expired(made)


def test_the_machines_own_clocks_are_read(tmp_path: Path) -> None:
    made = lab(tmp_path, "1s")
    assert 0 < (lease.left(made) or 0) <= 1
    until = time.monotonic() + 10
    while not lease.expired(made) and time.monotonic() < until:
        time.sleep(0.05)
    assert lease.expired(made)
