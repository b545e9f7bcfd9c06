"""Break a real lab in every known way: the first finding names it, and what is printed or done mends it.

Run by its own path only (pytest tests/sabotage), as it is too long for every test run; tests/test_lab.py breaks the lab
of those in some of these ways. A lab of these names that is there already is used, and stays.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from real import run_labctl
from support import ROOT, specify

from labctl.components import Component
from labctl.diagnose.breakages import BREAKAGES, BY_NAME, Breakage
from labctl.lab.snapshot import snapshots
from labctl.records.lab import Lab

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="a real lab needs root"),
]
LABS = {"sab": "zed-2node", "sab6": "ussuri-6node"}
SNAPSHOT = "good"
#: Labs whose last case was mended and proven.
MENDED: set[str] = set()
#: On six nodes: what breaks on a node that has no other role in the lab of two.
APART = {Component.NEUTRON_L3, Component.NEUTRON_DHCP, Component.NEUTRON_METADATA, Component.SWIFT_STORAGE}
APART |= {Component.NOVA_COMPUTE, Component.CINDER_VOLUME, Component.SWIFT_PROXY}
APART |= {Component.GNOCCHI, Component.CEILOMETER, Component.CEILOMETER_COMPUTE, Component.AODH}
#: The tests of the end-to-end suite that prove a service; identity's ask every API.
PROOF = {
    "glance": "image",
    "nova": "compute",
    "placement": "compute",
    "neutron": "network",
    "cinder": "volume",
    "swift": "object",
    "heat": "orchestration",
    **dict.fromkeys(("gnocchi", "ceilometer", "aodh"), "telemetry"),
}
HEAD = ("lab", "breakage", "first finding", "mended by", "found", "mended", "proven")
LINE = "{:5} {:26} {:40.40} {:10} {:>7} {:>7} {:>7}"


def cases() -> Iterator[tuple[str, str]]:
    """The labs, and in what ways each is broken."""
    for lab, topology in LABS.items():
        spec = specify(ROOT / "topologies" / f"{topology}.yaml")
        for breakage in BREAKAGES:
            if breakage.nodes(spec) and (lab == "sab" or breakage.component in APART):
                yield lab, breakage.name


@pytest.fixture(scope="module")
def good() -> Iterator[Callable[[str], None]]:
    """Make a lab good again: made when its first case comes, and restored where a case left it broken.

    A lab that a case has mended is good: so every case but the first shows that the one before left nothing.
    """
    made = []

    def sure(name: str) -> None:
        if name in MENDED:
            return
        if name not in (row["name"] for row in json.loads(run_labctl("list", "-o", "json").stdout)):
            made.append(name)
            run_labctl("up", LABS[name], "--name", name, timeout=2400)
        if SNAPSHOT in (kept.name for kept in snapshots(Lab.load(name))):
            run_labctl("snapshot", "restore", name, SNAPSHOT)
        else:
            run_labctl("snapshot", "create", name, SNAPSHOT)
        assert diagnosed(name) == []

    yield sure
    for name in made:
        run_labctl("down", name)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Add a line to the table of all cases, a file of the run."""
    path = tmp_path_factory.getbasetemp() / "sabotage.txt"
    path.write_text(LINE.format(*HEAD) + "\n")

    def add(line: str) -> None:
        with path.open("a") as file:
            print(line, file=file)

    return add


def diagnosed(lab: str, *words: str) -> list[dict[str, str]]:
    """The causes that a diagnosis finds, the first one first."""
    said = run_labctl("diagnose", lab, "-o", "json", *words, check=False).stdout
    causes: list[dict[str, str]] = json.loads(said)["causes"]
    return causes


def mended(lab: str) -> str:
    """Mend a lab as its user would: what labctl may do, then the printed commands, then undo the exercise."""
    left = diagnosed(lab, "--fix")
    if not left:
        return "--fix"
    for _ in range(2):
        for cause in left:
            command = cause["fix"].replace("labctl ", f"{sys.executable} -m labctl ", 1)
            subprocess.run(command, shell=True, timeout=600, check=False)
        left = diagnosed(lab)
        if not left:
            return "command"
    run_labctl("fault", "heal", lab)
    assert diagnosed(lab) == []
    return "undoing"


@pytest.mark.parametrize(("lab", "breakage"), list(cases()))
def test_a_breakage_is_named_and_mended(
    good: Callable[[str], None], table: Callable[[str], None], lab: str, breakage: str
) -> None:
    exercise = BY_NAME[breakage]
    good(lab)
    MENDED.discard(lab)
    run_labctl("break", lab, breakage)
    times, first, how = [time.monotonic()], "nothing", "nothing"
    try:
        found = diagnosed(lab)
        times.append(time.monotonic())
        assert found, "nothing was found"
        first = f"{found[0]['row']} {found[0]['title']}"
        assert found[0]["row"] in exercise.rows, found
        assert found[0]["where"] in (exercise.node(Lab.load(lab).spec), "api"), found
        how = mended(lab)
        times.append(time.monotonic())
        proven(lab, exercise, found[0]["service"])
        times.append(time.monotonic())
        MENDED.add(lab)
    finally:
        seconds = [f"{after - before:.1f}s" for before, after in pairwise(times)]
        table(LINE.format(lab, breakage, first, how, *seconds, *["-"] * (3 - len(seconds))))


def proven(lab: str, exercise: Breakage, service: str) -> None:
    """The smoke tests of the service that was broken pass."""
    name = next((s for s in PROOF if exercise.component.value.startswith(s)), service)
    file = ROOT / "e2e" / f"test_{PROOF.get(name, 'identity')}.py"
    done = run_labctl("test", lab, "-n", "0", "--smoke", "--", str(file), timeout=900, check=False)
    assert " passed" in done.stdout, file
    assert " failed" not in done.stdout, file
