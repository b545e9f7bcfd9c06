"""Control groups: a machine's processes are found, frozen where they are, let go on, and killed even when frozen."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.host import cgroup, process

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="control groups need root"),
]

LAB, NODE = f"cgroup-{os.getpid()}", "first"
#: A process that writes a number every few milliseconds, with a child for each, so that forks race with the freezer.
BUSY = 'n=0; while :; do n=$((n + 1)); (echo $n >"$1"); sleep 0.005; done'


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Path]:
    """A file that the machine's processes count in."""
    path = tmp_path / "count"
    groups = " ".join(str(procs) for procs in cgroup.make(LAB, NODE))
    join = 'for procs in $0; do echo $$ >"$procs" || exit; done; exec sh -c "$2" sh "$1"'
    started = [process.start(["sh", "-c", join, groups, str(path), BUSY]) for _ in range(3)]
    deadline = time.monotonic() + 10
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()
    yield path
    assert cgroup.kill(LAB) == []
    for child in started:
        child.wait()
    assert cgroup.groups(LAB) == []


def moves(path: Path) -> bool:
    """True when somebody still counts."""
    before = path.stat().st_mtime_ns
    time.sleep(0.3)
    return path.stat().st_mtime_ns != before


def test_a_frozen_machine_does_nothing_and_goes_on_where_it_was(counter: Path) -> None:
    assert moves(counter)
    assert not cgroup.frozen(LAB, NODE)

    cgroup.freeze(LAB, NODE)
    assert cgroup.frozen(LAB, NODE)
    assert not moves(counter)
    cgroup.freeze(LAB, NODE)

    cgroup.thaw(LAB, NODE)
    assert not cgroup.frozen(LAB, NODE)
    assert moves(counter)
    cgroup.thaw(LAB, NODE)
    assert cgroup.path(LAB) in cgroup.groups(LAB)
    assert cgroup.ROOT / "freezer" / cgroup.owner() / LAB not in cgroup.groups(LAB)


def test_each_machine_has_a_group_where_systemd_keeps_its_services_apart(counter: Path) -> None:
    other = cgroup.make(LAB, "second")
    assert len({*other, *cgroup.make(LAB, NODE)}) == 2 * len(other)
    for name in ("systemd", "unified"):
        if (cgroup.ROOT / name / "cgroup.procs").exists():
            assert [g for g in other if g.is_relative_to(cgroup.ROOT / name)]
    assert LAB in cgroup.labs()


def test_another_home_has_other_groups(counter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_HOME", "/somewhere/else")
    assert (cgroup.labs(), cgroup.groups(LAB), cgroup.kill(LAB)) == ([], [], [])
    monkeypatch.undo()
    assert moves(counter)


def test_a_frozen_machine_can_be_killed(counter: Path) -> None:
    cgroup.freeze(LAB, NODE)
    assert cgroup.kill(LAB, NODE) == []
    assert cgroup.groups(LAB) == []


def test_killing_a_lab_kills_its_frozen_machines(counter: Path) -> None:
    cgroup.freeze(LAB, NODE)
    assert cgroup.kill(LAB) == []
    assert cgroup.groups(LAB) == []


def test_nothing_to_thaw_is_no_error() -> None:
    cgroup.thaw("no-such-lab")
    cgroup.thaw("no-such-lab", NODE)
    assert not cgroup.frozen("no-such-lab", NODE)
