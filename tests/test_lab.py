"""One real lab, from nothing to nothing: up, proven by the end-to-end suite, again, beside another, down."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl import process
from labctl.lab.down import remains

NAME = "ci-zed"
SECOND = "ci-second"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="a real lab needs root"),
]


def labctl(*words: str, timeout: float = 600) -> str:
    """Run labctl as a user would; the output of a failure is shown in full."""
    done = process.run([sys.executable, "-m", "labctl", *words], timeout=timeout, check=False)
    print(done.stdout, done.stderr, sep="\n")
    assert done.returncode == 0, f"labctl {' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    labctl("down", NAME)
    labctl("up", "zed-2node", "--name", NAME, timeout=1500)
    yield NAME
    labctl("down", NAME)


def test_the_end_to_end_suite_passes(lab: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "junit.xml"
    words = ["test", lab, "-n", "4", "--junit", str(report), "--", "--lab-artifacts", str(tmp_path / "artifacts")]
    said = labctl(*words, timeout=1500)
    with capfd.disabled():
        print("\n" + "\n".join(f"    {line}" for line in said.splitlines()[-25:]))
    assert " passed" in said
    assert 'failures="0"' in report.read_text()


def test_a_second_up_changes_nothing(lab: str) -> None:
    assert "  0 changed" in labctl("up", "zed-2node", "--name", lab).splitlines()[-8:][0] or "0 changed" in labctl(
        "up", "zed-2node", "--name", lab
    )


def test_a_client_inside_the_lab_sees_its_hypervisor(lab: str) -> None:
    rows = json.loads(labctl("exec", lab, "--", "openstack", "hypervisor", "list", "-f", "json"))
    assert [row["Hypervisor Hostname"] for row in rows] == ["compute"]
    assert "Id" in labctl("ssh", lab, "compute", "--", "virsh", "list")


def test_another_lab_with_the_same_addresses_runs_beside_it(lab: str) -> None:
    try:
        labctl("up", "zed-2node", "--name", SECOND, "--until", "keystone")
        for name in (lab, SECOND):
            said = labctl("exec", name, "--", "curl", "-s", "-m", "20", "http://controller:5000/v3")
            assert json.loads(said)["version"]["id"].startswith("v3")
    finally:
        labctl("down", SECOND)
    assert remains(SECOND) == []


def test_down_leaves_nothing_and_can_be_repeated() -> None:
    labctl("down", NAME)
    assert remains(NAME) == []
    assert "nothing to remove" in labctl("down", NAME)
