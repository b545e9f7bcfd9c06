"""Files that nodes must have in common."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import ROOT, specify, write

from labctl.diagnose import between
from labctl.diagnose.breakages import BY_NAME
from labctl.diagnose.model import Finding
from labctl.engine.converge import Engine, no_guest
from labctl.errors import LabError
from labctl.operations.node import Copy
from labctl.records.lab import Lab

OBJECTS = """\
name: objects
release: zed
bases: [debian12]
drivers: [nspawn]
networks:
  management: {cidr: 10.0.0.0/24}
nodes:
  proxy:
    networks: {management: 10.0.0.11}
    runs: [mariadb, rabbitmq, memcached, keystone, swift-proxy]
  first:
    networks: {management: 10.0.0.51}
    runs: [swift-storage]
    disks: {sdb: 1G}
  second:
    networks: {management: 10.0.0.52}
    runs: [swift-storage]
    disks: {sdb: 1G}
"""
ACCOUNT, CONTAINER, OBJECT = (f"/etc/swift/{kind}.ring.gz" for kind in ("account", "container", "object"))


class Shell:
    """A node's session that runs its commands here, behind a clock of its own."""

    def __init__(self, seconds: int | None) -> None:
        self.ahead = "exit 1" if seconds is None else f'date() {{ command date -d "now {seconds} seconds" "$@"; }}'

    def run(self, command: str, timeout: float) -> subprocess.CompletedProcess[str]:
        words = ["sh", "-c", f"{self.ahead}\n{command}"]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=timeout)


def apart(lab: Lab, **seconds: int | None) -> list[Finding]:
    """What is found where clocks differ by so much from this machine's."""
    engine = Engine(lab, no_guest)
    engine._sessions.update({node: Shell(by) for node, by in seconds.items()})  # type: ignore[misc]
    return between.clocks(engine)


def test_a_clock_that_differs_from_the_time_servers_is_set_by_chrony_again(tmp_path: Path) -> None:
    path = write(tmp_path)
    spec = specify(path)
    lab = Lab.create(spec.model_copy(update={"own_kernel": True}), path)
    assert apart(lab, first=0, second=0) == []
    assert apart(lab, first=7200, second=7200) == []
    (found,) = apart(lab, first=0, second=600)
    assert (found.row.id, found.where, found.found) == (
        "B1",
        "second",
        "the clock is 600 s ahead of that of first",
    )
    assert found.mend
    assert found.mend.restart == ("chrony",)
    (behind,) = apart(lab, first=600, second=0)
    assert behind.found == "the clock is 600 s behind that of first"
    assert apart(lab, first=0, second=None) == []
    assert apart(lab, second=600) == []


class Rings:
    """The rings of each node, equal at first."""

    def __init__(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of = {node: dict.fromkeys((ACCOUNT, CONTAINER, OBJECT), "new") for node in lab.spec.nodes}
        self.engine = Engine(lab, no_guest)
        monkeypatch.setattr(self.engine, "reaches", self.of.__contains__)
        monkeypatch.setattr(self.engine, "sums", lambda copy, node: self.of[node])

    def compared(self, *finished: str) -> list[Finding]:
        return between.copies(self.engine, finished or ("configure",))


@pytest.fixture
def rings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rings:
    path = write(tmp_path, OBJECTS)
    return Rings(Lab.create(specify(path), path), monkeypatch)


def test_a_stale_ring_and_a_missing_one_are_told_apart_and_copied_again(rings: Rings) -> None:
    assert rings.compared() == []
    rings.of["first"][OBJECT] = "old"
    del rings.of["second"][ACCOUNT]
    stale, missing = rings.compared()
    assert (stale.row.id, stale.where, stale.service) == ("A35", "first", "swift")
    assert stale.found == f"{OBJECT} differs from that of proxy"
    assert (missing.row.id, missing.where) == ("B54", "second")
    assert missing.found == f"{ACCOUNT} was not copied from proxy"
    assert stale.mend
    assert stale.mend.copies == (Copy((ACCOUNT, CONTAINER, OBJECT), "proxy", ("first",), stale.mend.copies[0].origin),)


def test_rings_are_compared_once_they_were_copied_between_nodes_that_answer(rings: Rings) -> None:
    rings.of["first"][OBJECT] = "old"
    assert rings.compared("infrastructure") == []
    del rings.of["first"]
    assert rings.compared() == []


def test_the_exercise_is_for_labs_whose_rings_are_copied(rings: Rings) -> None:
    exercise = BY_NAME["ring-stale"]
    assert exercise.node(rings.engine.lab.spec) == "first"
    with pytest.raises(LabError, match="zed-2node has no swift-storage on a node without swift-proxy"):
        exercise.node(specify(ROOT / "topologies" / "zed-2node.yaml"))


def test_a_lab_without_object_storage_has_nothing_to_compare(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert between.copies(Engine(Lab.create(specify(path), path), no_guest), ("configure",)) == []


def test_a_ring_that_the_proxy_lacks_is_no_fault_of_its_copies(rings: Rings) -> None:
    del rings.of["proxy"][ACCOUNT]
    assert rings.compared() == []
    del rings.of["proxy"]
    assert rings.compared() == []
