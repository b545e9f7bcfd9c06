"""The way to a later release as a document: only what changes, in the order in which it is typed."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from commandline import Labctl
from support import ROOT, specify

from labctl.topology.model import Mechanism
from labctl.upgrade import chain, guide

TRAIN = specify(ROOT / "topologies" / "train-2node.yaml")
HOPS = chain.plan(TRAIN, "gazpacho", kernel=False)


@pytest.fixture(scope="module")
def document() -> str:
    return guide.guide(HOPS, "labctl guide train-2node --upgrade-to 2026.1")


def chapter(text: str, number: int) -> str:
    return text.partition(f"\n## {number}. ")[2].partition(f"\n## {number + 1}. ")[0]


def test_each_hop_is_a_chapter(document: str) -> None:
    assert re.findall(r"^## \d+\. (.*)$", document, re.MULTILINE) == [hop.title for hop in HOPS]
    assert document.startswith("# train-2node: Train → Gazpacho\n")


@pytest.mark.parametrize("number", range(1, len(HOPS) + 1), ids=[hop.name for hop in HOPS])
def test_its_steps_are_in_the_order_in_which_they_are_typed(document: str, number: int) -> None:
    order = ["data migrations of the release that runs", "Stop everything", "The new code"]
    order += ["what changes"] if number not in (2, 3, 4) else []  # Victoria, Wallaby and Xena read the same options
    order += ["tables up to date", "### Start", "Upgrade checks", "Data migrations of the new release"]
    places = [chapter(document, number).index(heading) for heading in order]
    assert all(first < second for first, second in pairwise(places))


def test_only_what_differs_of_a_file_is_shown(document: str) -> None:
    ussuri = chapter(document, 1)
    assert "-use_neutron = true\n" in ussuri
    assert "connection = mysql" not in ussuri
    epoxy = chapter(document, 9)
    assert "-mechanism_drivers = linuxbridge,l2population\n+mechanism_drivers = openvswitch,l2population\n" in epoxy
    assert "rm /etc/neutron/plugins/ml2/linuxbridge_agent.ini" in epoxy
    assert "sed -i s/bookworm/trixie/g" in epoxy
    assert "ip address add 10.0.1.11/24 dev eth2" in epoxy
    assert "openstack port set --host HOST PORT" in epoxy


def test_no_password_and_nothing_of_labctls_own_is_typed(document: str) -> None:
    assert "\x02" not in document
    assert "rm -f /var/lib/labctl/stamps" not in document
    assert "fernet_setup" not in document, "keys are there"


def test_it_is_written_in_korean_too() -> None:
    text = guide.guide(HOPS[:1], "labctl guide", "ko")
    assert "### 설정: 바뀌는 부분" in text
    assert "### Configuration" not in text


def test_machines_are_upgraded_by_hand() -> None:
    machines = TRAIN.model_copy(update={"driver": "libvirt", "own_kernel": True})
    hops = chain.plan(machines, "gazpacho", kernel=True, by_hand=True)
    assert "netdev" not in guide.guide(hops, "labctl guide")


def test_the_command_says_how_to_make_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    labctl = Labctl(monkeypatch, capsys)
    status, out, _ = labctl("guide", "train-2node", "--release", "train", "--upgrade-to", "ussuri")
    assert status == 0
    assert "`labctl guide train-2node --release train --upgrade-to ussuri`" in out
    status, out, _ = labctl("guide", "train-2node", "--release", "ussuri", "--upgrade-to", "ussuri")
    assert (status, out) == (0, "train-2node is there: nothing to do\n")


def test_its_title_is_the_whole_way_also_where_the_last_hop_changes_something_else() -> None:
    epoxy = specify(ROOT / "topologies" / "epoxy-2node.yaml")
    agents = epoxy.model_copy(update={"mechanism": Mechanism.OPENVSWITCH, "userspace_datapath": True})
    (ovn,) = chain.plan(agents, mechanism="ovn", kernel=False)
    assert guide.guide((ovn,), "labctl guide").startswith("# epoxy-2node: openvswitch → ovn\n")
    later = chain.plan(TRAIN, "gazpacho", kernel=False)
    last = chain.plan(later[-1].after, mechanism="ovn", kernel=False)
    assert guide.guide((*later, *last), "labctl guide").startswith("# train-2node: Train → Gazpacho\n")


def test_the_constraints_that_it_names_exist() -> None:
    """Stein has none of its own."""
    text = guide.guide(chain.plan(specify(ROOT / "topologies" / "rocky-2node.yaml"), "ussuri", kernel=False), "again")
    named = re.findall(r"-c (constraints/\w+\.txt)", text)
    assert named == ["constraints/train.txt", "constraints/train.txt", "constraints/ussuri.txt"]
    assert all((ROOT / "labctl/releases" / path).exists() for path in named)
