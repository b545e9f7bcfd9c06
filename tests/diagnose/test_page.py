"""docs/troubleshooting.md is what the rows say, and its exercises exist."""

from __future__ import annotations

import re
import subprocess

from support import ROOT, specify

from labctl import bases
from labctl.diagnose.breakages import BREAKAGES, BY_NAME
from labctl.diagnose.page import page


def test_the_page_is_current() -> None:
    kept = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert kept == page(), "python -m labctl.diagnose.page > docs/troubleshooting.md"


def test_every_exercise_is_shell_and_fits_a_lab() -> None:
    specs = [specify(ROOT / "topologies" / "zed-6node.yaml", driver=driver) for driver in ("nspawn", "libvirt")]
    specs.append(specify(ROOT / "topologies" / "ussuri-6node.yaml"))  # a router
    specs.append(specify(ROOT / "topologies" / "epoxy-2node.yaml"))  # OVN
    for exercise in BREAKAGES:
        fitting = [spec for spec in specs if exercise.nodes(spec)]
        assert fitting, exercise.name
        for shell in (exercise.shell, exercise.undo):
            text = exercise.program(fitting[0], shell)
            assert subprocess.run(["sh", "-n"], input=text, text=True, timeout=30, check=False).returncode == 0, text


def test_an_exercise_names_units_as_the_packages_of_the_lab_do() -> None:
    for exercise in BREAKAGES:
        for words in re.findall(r"systemctl ([^;&|)\n]+)", f"{exercise.shell}\n{exercise.undo}"):
            verb, *units = (word for word in words.split() if word[0] != "-" and word not in ("KILL", "MainPID"))
            assert verb == "daemon-reload" or all(unit.startswith("unit:") for unit in units), words
    spec = specify(ROOT / "topologies" / "ussuri-6node.yaml")
    assert "restart openstack-nova-compute" in BY_NAME["nova-transport"].program(spec)
    for daemon in {name for b in BREAKAGES for name in re.findall(r"unit:([a-z0-9-]+)", b.shell + b.undo)}:
        for base in bases.BASES.values() if "ovn" not in daemon else (bases.get("debian13", "debian"),):
            assert base.unit(daemon)
