"""Rules about nodes, their disks and values: for each, a lab that breaks it and one that does not."""

from __future__ import annotations

import re

import pytest
import yaml
from full import Lab, node, said, the_one
from support import planned, specify, variants

from labctl.components import COMPONENTS
from labctl.lab.choose import draft
from labctl.operations.node import Command
from labctl.services.base import Context
from labctl.services.swift import Swift
from labctl.topology.load import parse
from labctl.topology.rules_secrets import SECRETS
from labctl.topology.rules_values import SNAPSHOT_STAGES
from labctl.topology.stages import STAGES


def test_a_node_has_the_memory_of_what_it_runs(lab: Lab) -> None:
    node(lab, "compute")["memory"] = "509 MiB"
    assert the_one(lab) == (
        "nodes.compute.memory: 509 MiB cannot hold what runs on compute: its 2 components take 510 MiB at the least; "
        "write 1 GiB"
    )
    node(lab, "compute")["memory"] = "510 MiB"
    assert said(lab) == []
    del node(lab)["memory"]
    assert the_one(lab).startswith("nodes.controller.memory: 2 GiB cannot hold what runs on controller")
    for memory in ("1 MiB", "2 GiB"):
        node(lab)["memory"] = memory
        assert f"{memory} cannot hold what runs on controller: its 17 components take" in the_one(lab)
    node(lab, "storage")["memory"] = "63 MiB"
    node(lab, "storage")["runs"] = []
    assert any(line.startswith("nodes.storage.memory: 63 MiB cannot hold") for line in said(lab))


@pytest.mark.parametrize("number", [64, 8192, "8192"])
def test_memory_without_a_unit_is_mebibytes(lab: Lab, number: int | str) -> None:
    lab["nodes"]["idle"] = {"memory": number, "networks": {"management": "10.0.0.99"}, "runs": []}
    assert parse(yaml.safe_dump(lab), "f").nodes["idle"].memory == int(number) * 2**20
    lab["fixtures"] = {"flavors": {"m1.odd": {"ram": number}}}
    assert parse(yaml.safe_dump(lab), "f").fixtures.flavors["m1.odd"].ram == int(number) * 2**20


@pytest.mark.parametrize("number", [63, 0, 2**24 + 1, 2**45])
def test_memory_that_no_machine_has_is_refused(lab: Lab, number: int) -> None:
    node(lab, "storage")["memory"] = number
    meant = "63 GiB" if number == 63 else "4 GiB"
    wrong = f"{number} MiB is not a machine's memory; write it with a unit, like '{meant}'"
    assert the_one(lab) == f"nodes.storage.memory: {wrong}"
    node(lab, "storage")["memory"] = "1 GiB"
    lab["fixtures"] = {"flavors": {"m1.odd": {"ram": number}}}
    assert the_one(lab) == f'fixtures.flavors["m1.odd"].ram: {wrong}'


@pytest.mark.parametrize("name", ["controller", "compute"])
@pytest.mark.parametrize("number", [40, "40"])
def test_a_disk_has_a_unit(lab: Lab, name: str, number: int | str) -> None:
    node(lab, name)["disk"] = number
    assert the_one(lab) == f"nodes.{name}.disk: 40 has no unit; write it like '40 GiB'"
    node(lab, name)["disk"] = "40 MiB"
    assert f"nodes.{name}.disk: 40 MiB cannot hold a system and its packages; at least 2 GiB" in said(lab)
    node(lab, name)["disk"] = "40 GiB"
    assert said(lab) == []


def test_every_other_disk_has_a_unit_too(lab: Lab) -> None:
    for written in (8, {"size": 8}):
        node(lab, "storage")["disks"] = {**node(lab, "storage")["disks"], "more": written}
        assert "8 has no unit; write it like '8 GiB'" in the_one(lab)


def test_a_compute_node_without_room_for_the_default_flavors_is_told_at_its_disk(lab: Lab) -> None:
    node(lab, "compute")["disk"] = "1 GiB"
    assert {line.split(":")[0] for line in said(lab)} == {"nodes.compute.disk"}


def test_cinder_volume_has_a_disk_of_its_own(lab: Lab) -> None:
    del node(lab, "storage")["disks"]["cinder"]
    assert "nodes.storage.disks: cinder-volume needs its own disk for volumes" in the_one(lab)
    node(lab, "storage")["disks"]["cinder"] = "512 MiB"
    assert "nodes.storage.disks.cinder: 512 MiB cannot hold a volume" in the_one(lab)


def test_swift_storage_has_disks_besides_cinders(lab: Lab) -> None:
    del node(lab, "storage")["disks"]["swift1"]
    assert "nodes.storage.disks: swift-storage needs its own disks for objects" in the_one(lab)
    node(lab, "storage")["disks"] |= {"a": "1 GiB", "b": "1023 MiB"}
    assert "nodes.storage.disks.b: 1023 MiB is too small" in the_one(lab)


@pytest.mark.parametrize(("nodes", "disks", "replicas"), [(1, 1, 1), (1, 3, 3), (2, 1, 2), (2, 2, 3), (4, 1, 3)])
def test_swift_has_three_replicas_or_one_on_each_disk(lab: Lab, nodes: int, disks: int, replicas: int) -> None:
    node(lab, "storage")["runs"] = ["cinder-volume"]
    for i in range(nodes):
        lab["nodes"][f"object{i}"] = {
            "networks": {"management": f"10.0.0.{50 + i}"},
            "disks": {f"sd{letter}": "1 GiB" for letter in "bcd"[:disks]},
            "runs": ["swift-storage"],
        }
    assert said(lab) == []
    spec = draft(parse(yaml.safe_dump(lab), "f")).spec
    rings = [o.run for o in Swift().configure(Context.of(spec), spec.nodes["controller"]) if isinstance(o, Command)]
    assert len(rings) == 3
    for ring in rings:
        assert f" create 10 {replicas} 1" in ring
        assert ring.count(" add --region 1 ") == nodes * disks
        assert len(set(re.findall(r"--zone (\d+) --ip (\S+)", ring))) == nodes


def test_a_flavor_is_whole_mebibytes_and_fits_on_a_compute_node(lab: Lab) -> None:
    lab["fixtures"] = {"flavors": {"m1.odd": {"ram": "1000 B"}}}
    assert the_one(lab).startswith('fixtures.flavors["m1.odd"].ram: 1000 bytes is not a whole number of MiB')
    lab["fixtures"] = {"flavors": {"m1.big": {"ram": "1 GiB", "disk": 11}}}
    assert "11 GiB does not fit on any compute node; the largest has 10 GiB" in the_one(lab)
    lab["fixtures"] = {"flavors": {"m1.fit": {"ram": "1 GiB", "disk": 10}}}
    assert said(lab) == []


@pytest.mark.parametrize(
    ("secret", "value", "why"),
    [
        ("ADMIN_PASS", "", "must not be empty"),
        ("ADMIN_PASS", "x" * 65, "at most 64 bytes"),
        ("ADMIN_PASS", "비밀" * 11, "at most 64 bytes"),
        ("ADMIN_PASS", "ends\n", "not printed"),
        ("ADMIN_PASS", "a\x00b", "not printed"),
        ("GLANCE_PASS", "blank ", "begin or end with a blank"),
        ("NOVA_DBPASS", "ü", "ASCII"),
        ("KEYSTONE_DBPASS", "p@ss", "keystone's migrations"),
        ("RABBIT_PASS", "a/b", "oslo.messaging"),
        ("NOVA_DBPASS", "{0}", "nova's cell mappings"),
        ("GLANCE_DBPASS", "a%41", "SQLAlchemy"),
        ("swift_pass", "50%", "Swift's configuration files"),
        ("SWIFT_HASH_PREFIX", "a ;b", "Swift's configuration files"),
    ],
)
def test_a_secret_that_a_program_cannot_carry_is_refused_with_the_reason(
    lab: Lab, secret: str, value: str, why: str
) -> None:
    lab["passwords"] = {secret: value}
    problem = the_one(lab)
    assert problem.startswith(f"passwords.{secret}: must ")
    assert why in problem
    assert value not in problem or value == ""


@pytest.mark.parametrize(
    "value", ["Az09_.-", "with blank", "a/b:c", "p@ss#1", "$HOME", "50%s", 'it\'s "x"', "-n", "\\"]
)
def test_any_other_secret_is_carried(lab: Lab, value: str) -> None:
    lab["passwords"] = {
        "ADMIN_PASS": value + "비",
        "GLANCE_DBPASS": value,
        "RABBIT_PASS": value.replace("/", "|"),
        "METADATA_SECRET": value,
    }
    assert said(lab) == []


@pytest.mark.parametrize(
    ("name", "near"), [("admin_password", "ADMIN_PASS"), ("NOVA_DB_PASS", "NOVA_DBPASS"), ("rabbitpass", "RABBIT_PASS")]
)
def test_a_password_is_of_a_secret(lab: Lab, name: str, near: str) -> None:
    lab["passwords"] = {name: "unix1234"}
    assert the_one(lab).startswith(f"passwords.{name}: unknown secret '{name}'; did you mean '{near}'?")
    lab["passwords"] = {near: "unix1234", "swift_pass": "unix1234"}
    assert said(lab) == []


def test_the_known_secrets_are_those_of_the_plans() -> None:
    used, known = set(), set()
    for path, base in variants():
        spec = specify(path, base=base)
        brought = {name for c, rules in COMPONENTS.items() if spec.has(c) for name in rules.secrets}
        assert planned(spec).secrets() <= brought
        used |= planned(spec).secrets()
        known |= brought
    assert used == known
    assert known <= set(SECRETS)
    assert len(SECRETS) == len(set(SECRETS))


@pytest.mark.parametrize(
    "region", ["", "Region One", "a\tb", "dc1;touch", "eu$west", "a#b", "-x", "ü", "a\n", "x" * 256]
)
def test_a_region_is_a_word(lab: Lab, region: str) -> None:
    lab["options"] = {"region": region}
    assert the_one(lab).startswith("options.region: ")
    lab["options"] = {"region": "north-1"}
    assert said(lab) == []


@pytest.mark.parametrize("physical", ["", "physnet1:br-ex", "a,b", "*", "a b", "x;y", "-x", "x" * 65])
def test_a_physical_network_is_a_word(lab: Lab, physical: str) -> None:
    lab["networks"]["provider"]["physical"] = physical
    assert the_one(lab).startswith("networks.provider.physical: ")
    lab["networks"]["provider"]["physical"] = "physnet-1.a_b"
    assert not said(lab)


def test_a_disks_name_fits_into_its_serial_number(lab: Lab) -> None:
    node(lab, "storage")["disks"]["d" * 20] = "1 GiB"
    assert said(lab) == []
    node(lab, "storage")["disks"]["d" * 21] = "1 GiB"
    assert "is too long for a disk's serial number: at most 20 characters" in the_one(lab)


def test_a_volume_group_needs_a_driver_with_device_mapper(lab: Lab) -> None:
    lab["options"] = {"volume_backend": "lvm"}
    assert said(lab) == []
    problem = the_one(lab | {"drivers": ["nspawn"]})
    assert problem.startswith("options.volume_backend: nspawn nodes have no device mapper")


@pytest.mark.parametrize("component", ["horizon", "heat"])
def test_what_people_log_in_to_needs_keystone(lab: Lab, component: str) -> None:
    node(lab)["runs"] = ["mariadb", "rabbitmq", "memcached", component]
    for name in ("compute", "storage"):
        del lab["nodes"][name]
    del lab["networks"]["overlay"], node(lab)["networks"]["overlay"]
    assert the_one(lab) == f"nodes.controller.runs[3]: {component} needs keystone, which no node of the lab runs"


def test_snapshots_name_stages_once_each(lab: Lab) -> None:
    lab["snapshots"] = ["keystone", "verify"]
    assert said(lab) == []
    lab["snapshots"] = ["keyston", "verify", "verify"]
    assert said(lab) == [
        f"snapshots[0]: unknown stage 'keyston'; did you mean 'keystone'? known: {', '.join(SNAPSHOT_STAGES)}",
        "snapshots[2]: verify is named twice",
    ]
    assert STAGES[1:] == SNAPSHOT_STAGES


def test_a_source_is_of_a_project(lab: Lab) -> None:
    lab["sources"] = {"nova": "../nova", "neutron": "https://example.org/neutron@master"}
    assert said(lab) == []
    lab["sources"] = {"nvoa": "../nova"}
    assert the_one(lab).startswith("sources.nvoa: unknown project 'nvoa'; did you mean 'nova'?")
