"""What other programs are told of a lab: OpenSSH's configuration, Ansible's inventory, ports to open."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from commandline import Labctl
from support import SMALL, TOPOLOGIES, specify, variants, write

from labctl.drivers.fake import Fake
from labctl.errors import LabError
from labctl.host import process
from labctl.lab import console, forward, login
from labctl.records.lab import Lab


@pytest.fixture
def lab(fake: Fake, labctl: Labctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose home has what configuration files and shells read in their own way."""
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "a %h 'home\" \\x"))
    assert labctl("up", write(tmp_path, SMALL))[0] == 0
    return Lab.load("small")


def options(*words: str | Path) -> dict[str, str]:
    """What OpenSSH's client makes of a command line."""
    said = process.output(["ssh", "-G", *words])
    return dict(line.partition(" ")[::2] for line in said.splitlines())


def test_openssh_reads_the_configuration_as_it_is_meant(lab: Lab, labctl: Labctl, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(labctl("ssh-config", "small")[1])
    read = options("-F", file, "second")
    assert (read["hostname"], read["user"], read["port"]) == ("10.0.0.12", "root", "22")
    assert read["stricthostkeychecking"] == "true"
    assert read["proxyusefdpass"] == "yes"
    assert f"ip netns exec {lab.namespace} " in read["proxycommand"]
    keys = str(lab.directory / "keys").replace("%", "%%")
    assert read["identityfile"] == f"{keys}/id_ed25519"
    assert read["userknownhostsfile"].replace("\\\\", "\\").replace('\\"', '"').strip('"') in (
        f"{keys}/known_hosts",
        f"{lab.directory}/keys/known_hosts",
    )


def test_ansible_gets_a_group_for_each_component(lab: Lab, labctl: Labctl) -> None:
    listed = json.loads(labctl("inventory", "small")[1])
    assert listed == json.loads(labctl("inventory", "small", "--list")[1])
    groups = {name: group["hosts"] for name, group in listed.items() if name not in ("_meta", "all")}
    assert groups == {"mariadb": ["first"], "memcached": ["first"], "etcd": ["second"]}
    assert listed["all"]["children"] == ["ungrouped", *groups]
    told = listed["_meta"]["hostvars"]["first"]
    assert told == json.loads(labctl("inventory", "small", "--host", "first")[1])
    assert (told["ansible_host"], told["ansible_user"]) == ("10.0.0.11", "root")
    assert told["labctl_components"] == ["mariadb", "memcached"]
    read = options("-F", "none", *shlex.split(told["ansible_ssh_common_args"]), told["ansible_host"])
    assert f"ip netns exec {lab.namespace} " in read["proxycommand"]
    status, _, err = labctl("inventory", "small", "--host", "third")
    assert status == 1
    assert "small has no node 'third'; it has first, second" in err


@pytest.mark.parametrize(("topology", "base"), variants(), ids=lambda v: getattr(v, "stem", v))
def test_groups_are_identifiers(topology: Path, base: str, tmp_path: Path) -> None:
    made = Lab(tmp_path, specify(topology, base=base), {})
    assert all(name.isidentifier() for name in login.inventory(made))


@pytest.mark.parametrize(("topology", "base"), variants(), ids=lambda v: getattr(v, "stem", v))
def test_every_lab_opens_its_apis_under_names_of_their_own(topology: Path, base: str) -> None:
    spec = specify(topology, base=base)
    found = forward.openings(spec)
    names = [opening.name for opening in found]
    assert names[0] == "socks"
    assert len(set(names)) == len(names)
    assert {"keystone", "novnc", "nova", "glance", "neutron"} <= set(names)
    assert all(opening.wanted >= 1024 for opening in found), "ports of a user without root"


def test_a_link_says_what_opens_it() -> None:
    (topology,) = [path for path in TOPOLOGIES if path.stem == "zed-2node"]
    links = {opening.name: opening.link(opening.wanted) for opening in forward.openings(specify(topology))}
    assert links["socks"] == "socks5h://127.0.0.1:1080"
    assert links["dashboard"] == "http://127.0.0.1:8880/horizon/"
    assert links["keystone"] == "http://127.0.0.1:5000/v3"
    assert links["novnc"] == "http://127.0.0.1:6080/vnc_auto.html"


def test_what_is_opened_can_be_chosen() -> None:
    (topology,) = [path for path in TOPOLOGIES if path.stem == "zed-2node"]
    spec = specify(topology)
    found = forward.chosen(spec, ["dashboard=9999", "nova", "nova"])
    assert [(opening.name, opening.wanted) for opening in found] == [("dashboard", 9999), ("nova", 8774)]
    for word, said in (
        ("ironic", "has no 'ironic' to open; it has socks"),
        ("nova=", "no port"),
        ("nova=0", "no port"),
    ):
        with pytest.raises(LabError, match=said):
            forward.chosen(spec, [word])


def test_a_console_keeps_its_token_at_another_place() -> None:
    address = "http://controller:6080/vnc_auto.html?path=%3Ftoken%3D1a2b"
    assert console.moved(address, "127.0.0.1:6081") == "http://127.0.0.1:6081/vnc_auto.html?path=%3Ftoken%3D1a2b"


def test_nothing_is_opened_of_a_lab_without_a_namespace(lab: Lab, labctl: Labctl) -> None:
    status, out, err = labctl("forward", "small")
    assert (status, out) == (1, "")
    assert "the network namespace of the lab small does not exist" in err
    assert "labctl repair small" in err
