"""The mended ebtables deletes a rule with --among-src by its number and leaves everything else alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.host import process
from labctl.services.neutron import EBTABLES

RULE = "-i tap1 --among-src fa:16:3e:59:da:1f -j RETURN"
LISTING = f"""Bridge table: nat

Bridge chain: neutronMAC-tap1, entries: 3, policy: RETURN
1 -i tap1 -j ACCEPT
2 {RULE}
3 -j DROP
"""


@pytest.fixture
def ebtables(tmp_path: Path) -> Path:
    real, script = tmp_path / "ebtables-nft", tmp_path / "ebtables"
    (tmp_path / "listing").write_text(LISTING)
    real.write_text(
        f'#!/bin/sh\ncase " $* " in *" -L "*) cat {tmp_path}/listing; exit ;; esac\necho "$*" >>{tmp_path}/calls\n'
    )
    script.write_text(EBTABLES.replace("/usr/sbin/ebtables-nft", str(real)))
    for path in (real, script):
        path.chmod(0o755)
    return script


def calls(script: Path) -> list[str]:
    path = script.with_name("calls")
    return path.read_text().splitlines() if path.exists() else []


def test_a_rule_with_among_is_deleted_by_its_number(ebtables: Path) -> None:
    process.run([ebtables, "-t", "nat", "--concurrent", "-D", "neutronMAC-tap1", *RULE.split()])
    assert calls(ebtables) == ["-t nat --concurrent -D neutronMAC-tap1 2"]


def test_a_rule_that_is_gone_already_counts_as_deleted(ebtables: Path) -> None:
    other = RULE.replace("1f", "20").split()
    process.run([ebtables, "-t", "nat", "--concurrent", "-D", "neutronMAC-tap1", *other])
    assert calls(ebtables) == []


def test_every_other_command_goes_through_unchanged(ebtables: Path) -> None:
    process.run([ebtables, "-t", "nat", "--concurrent", "-D", "PREROUTING", "-i", "tap1", "-j", "neutronMAC-tap1"])
    process.run([ebtables, "-t", "nat", "--concurrent", "-I", "neutronMAC-tap1", *RULE.split()])
    assert calls(ebtables) == [
        "-t nat --concurrent -D PREROUTING -i tap1 -j neutronMAC-tap1",
        f"-t nat --concurrent -I neutronMAC-tap1 {RULE}",
    ]
