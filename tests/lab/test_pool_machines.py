"""Pools of real containers: they start from the snapshot's files, use memory, and are reset; nothing is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labctl.host import process
from labctl.lab import pool, snapshot
from labctl.lab.down import remains
from labctl.records.lab import Lab
from labctl.records.lease import UNSAID

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")]


def tell(lab: Lab, text: str) -> None:
    with lab.driver.connect(lab, "first", 20) as session:
        assert session.run(f"echo {text} >/var/told && sync", timeout=20).status == 0


def told(lab: Lab) -> str:
    with lab.driver.connect(lab, "first", 20) as session:
        return session.run("cat /var/told; cat /etc/machine-id", timeout=20).stdout


def test_a_pool_of_containers_is_made_reset_and_removed(containers: Lab, tmp_path: Path) -> None:
    tell(containers, "ready")
    snapshot.create(containers, "ready")
    tell(containers, "later")
    name = f"pool-{os.getpid()}"
    try:
        one, two = pool.make(containers, "ready", pool.Wanted(name, 2, UNSAID, 2))
        assert [told(lab).split()[0] for lab in (one, two)] == ["ready", "ready"]
        assert told(one).split()[1] != told(two).split()[1], "two machines"
        assert told(containers).split()[0] == "later"
        assert all(10 * 2**20 < (pool.memory_of(lab) or 0) < 2**30 for lab in (one, two))
        tell(one, "mine")
        pool.reset(name, [one.name], 1)
        assert told(Lab.load(one.name)).split()[0] == "ready"
        (reset,) = (place for lab in pool.members(name) if (place := pool.place(lab)) and place.reset)
        assert reset.number == 1
    finally:
        pool.down(name, 2)
    assert (remains(one.name), remains(two.name)) == ([], [])
    assert f"labctl.{name}" not in process.output(["ip", "netns"])
