"""The rules of a topology: for each, a lab that breaks it and one that does not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from support import planned, specify, variants

from labctl import bases
from labctl.bases import runs_on
from labctl.components import COMPONENTS, Component
from labctl.releases import RELEASES
from labctl.topology.check import check
from labctl.topology.load import TopologyError, parse
from labctl.topology.model import Topology
from labctl.topology.problems import Positions
from labctl.topology.rules_values import SECRETS, SNAPSHOT_STAGES
from labctl.topology.stages import STAGES

Lab = dict[str, Any]

CONTROLLER = [
    "mariadb",
    "rabbitmq",
    "memcached",
    "keystone",
    "glance",
    "placement",
    "nova-controller",
    "neutron-server",
    "neutron-l2",
    "neutron-l3",
    "neutron-dhcp",
    "neutron-metadata",
    "cinder-controller",
    "swift-proxy",
    "heat",
    "horizon",
    "etcd",
]


@pytest.fixture
def lab() -> Lab:
    """A lab of every component, with nothing wrong."""
    return {
        "name": "full",
        "release": "zed",
        "bases": ["debian12"],
        "drivers": ["nspawn", "libvirt"],
        "networks": {
            "management": {"cidr": "10.0.0.0/24", "gateway": "10.0.0.1"},
            "overlay": {"cidr": "10.0.1.0/24"},
            "provider": {"cidr": "203.0.113.0/24", "pool": "203.0.113.101-203.0.113.250"},
        },
        "nodes": {
            "controller": {
                "networks": {"management": "10.0.0.11", "overlay": "10.0.1.11", "provider": "none"},
                "runs": list(CONTROLLER),
            },
            "compute": {
                "networks": {"management": "10.0.0.31", "overlay": "10.0.1.31", "provider": "none"},
                "runs": ["nova-compute", "neutron-l2"],
            },
            "storage": {
                "networks": {"management": "10.0.0.41"},
                "disks": {"cinder": "8 GiB", "swift1": "2 GiB"},
                "runs": ["cinder-volume", "swift-storage"],
            },
        },
    }


def said(lab: Lab) -> list[str]:
    """The problems of a lab, each as ``path: message``."""
    try:
        parse(yaml.safe_dump(lab, sort_keys=False), "f")
    except TopologyError as error:
        return [f"{p.path}: {p.message}" for p in error.problems]
    return []


def the_one(lab: Lab) -> str:
    problems = said(lab)
    assert len(problems) == 1, problems
    return problems[0]


def node(lab: Lab, name: str = "controller") -> Lab:
    found: Lab = lab["nodes"][name]
    return found


def test_a_lab_of_every_component_has_no_problem(lab: Lab) -> None:
    assert said(lab) == []
    assert {c for n in lab["nodes"].values() for c in n["runs"]} == set(Component)


def test_check_works_without_positions(lab: Lab) -> None:
    lab["release"] = "zedd"
    (problem,) = check(Topology.model_validate(lab), Positions("memory"))
    assert str(problem).startswith("memory:1:1: release: unknown release 'zedd'; did you mean 'zed'?")


# release × base × driver


def test_unknown_words_get_a_guess(lab: Lab) -> None:
    lab |= {"release": "trian", "bases": ["debain12"], "drivers": ["libvrit"]}
    release, base, driver = said(lab)
    assert release.startswith("release: unknown release 'trian'; did you mean 'train'?")
    assert base.startswith("bases[0]: unknown base 'debain12'; did you mean 'debian12'?")
    assert driver.startswith("drivers[0]: unknown driver 'libvrit'; did you mean 'libvirt'?")


def test_a_base_or_driver_is_named_once(lab: Lab) -> None:
    lab |= {"bases": ["debian12", "debian12"], "drivers": ["nspawn", "nspawn"]}
    assert said(lab) == ["bases[1]: debian12 is named twice", "drivers[1]: nspawn is named twice"]


@pytest.mark.parametrize("release", tuple(RELEASES))
@pytest.mark.parametrize("base", tuple(bases.TITLES))
def test_a_release_is_installed_only_on_its_bases(lab: Lab, release: str, base: str) -> None:
    lab |= {"release": release, "bases": [base], "drivers": ["libvirt"]}
    if release == "mitaka":
        node(lab)["runs"].remove("placement")
    if base in bases.of(RELEASES[release]):
        assert said(lab) == []
    else:
        assert f"{release} cannot be installed on {base}; possible: {bases.of(RELEASES[release])[0]}" in the_one(lab)


def test_nspawn_cannot_run_centos(lab: Lab) -> None:
    lab |= {"release": "train", "bases": ["centos7"], "drivers": ["nspawn", "libvirt"]}
    assert the_one(lab).startswith("drivers[0]: nspawn cannot run centos7")
    for driver in ("libvirt", "vagrant"):
        assert runs_on("centos7", driver)
        assert said(lab | {"drivers": [driver]}) == []


def test_the_default_drivers_are_checked_too(lab: Lab) -> None:
    lab |= {"release": "train", "bases": ["centos7"]}
    del lab["drivers"]
    assert "nspawn cannot run centos7" in the_one(lab)


def test_each_driver_may_have_its_own_base(lab: Lab) -> None:
    lab |= {"release": "train", "bases": ["centos7", "debian12"], "drivers": ["nspawn", "libvirt"]}
    assert said(lab) == []
    assert the_one(lab | {"drivers": ["nspawn"]}).startswith("bases[0]: none of the drivers (nspawn) can run")


# networks


def test_a_network_has_a_role(lab: Lab) -> None:
    lab["networks"]["lan"] = {"cidr": "10.9.0.0/24"}
    assert the_one(lab).startswith("networks.lan: has no role")
    lab["networks"]["lan"]["role"] = "overlay"
    del lab["networks"]["overlay"]
    for name in ("controller", "compute"):
        del node(lab, name)["networks"]["overlay"]
        node(lab, name)["networks"]["lan"] = f"10.9.0.{11 if name == 'controller' else 31}"
    assert said(lab) == []


def test_a_lab_has_a_management_network(lab: Lab) -> None:
    del lab["networks"]["management"]
    for each in lab["nodes"].values():
        del each["networks"]["management"]
    assert the_one(lab).startswith("networks: there is no management network")


@pytest.mark.parametrize("role", ["management", "overlay", "provider"])
def test_a_lab_has_one_network_of_a_role(lab: Lab, role: str) -> None:
    lab["networks"]["more"] = {"cidr": "10.9.0.0/24", "role": role}
    assert the_one(lab) == f"networks.more: is a second {role} network besides '{role}'; a lab has only one"


def test_a_network_has_room(lab: Lab) -> None:
    lab["networks"]["overlay"]["cidr"] = "10.0.1.11"
    assert any("10.0.1.11/32 has no room" in line for line in said(lab))


def test_networks_do_not_overlap(lab: Lab) -> None:
    lab["networks"]["provider"] = {"cidr": "10.0.0.128/25"}
    assert "networks.provider.cidr: 10.0.0.128/25 overlaps network 'management'" in the_one(lab)


@pytest.mark.parametrize(
    ("gateway", "why"),
    [("10.9.0.1", "outside"), ("10.0.0.0", "network address"), ("10.0.0.255", "broadcast")],
)
def test_a_gateway_is_a_host_of_its_network(lab: Lab, gateway: str, why: str) -> None:
    lab["networks"]["management"]["gateway"] = gateway
    problem = the_one(lab)
    assert problem.startswith(f"networks.management.gateway: {gateway} is")
    assert why in problem


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        ("203.0.113.20-203.0.113.10", "is reversed; did you mean 203.0.113.10-203.0.113.20?"),
        ("203.0.113.20-203.0.114.10", "203.0.114.10 is outside"),
        ("203.0.113.20-203.0.113.255", "broadcast"),
        ("203.0.113.1-203.0.113.10", "contains the gateway 203.0.113.1"),
    ],
)
def test_a_pool_is_hosts_of_its_network_without_the_gateway(lab: Lab, pool: str, why: str) -> None:
    lab["networks"]["provider"]["pool"] = pool
    problem = the_one(lab)
    assert problem.startswith("networks.provider.pool: ")
    assert why in problem


@pytest.mark.parametrize(("field", "value"), [("pool", "10.0.0.50-10.0.0.60"), ("dns", "10.0.0.1")])
def test_provider_settings_elsewhere_are_refused(lab: Lab, field: str, value: str) -> None:
    lab["networks"]["management"][field] = value
    assert the_one(lab).startswith(f"networks.management.{field}: has no effect in the management network")


def test_a_node_attaches_to_networks_of_the_lab(lab: Lab) -> None:
    node(lab, "storage")["networks"]["overlya"] = "none"
    assert "nodes.storage.networks.overlya: unknown network 'overlya'; did you mean 'overlay'?" in the_one(lab)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.9.0.5", "is outside 10.0.0.0/24"),
        ("10.0.0.0", "is the network address"),
        ("10.0.0.255", "is the broadcast address"),
        ("10.0.0.1", "is the gateway of 'management'"),
        ("10.0.0.11", "is already the address of node 'controller'"),
    ],
)
def test_an_address_is_a_free_host_of_its_network(lab: Lab, address: str, why: str) -> None:
    node(lab, "compute")["networks"]["management"] = address
    problem = the_one(lab)
    assert problem.startswith(f"nodes.compute.networks.management: {address} ")
    assert why in problem


def test_the_default_gateway_is_taken_too(lab: Lab) -> None:
    node(lab, "compute")["networks"]["overlay"] = "10.0.1.1"
    assert "10.0.1.1 is the gateway of 'overlay'" in the_one(lab)


def test_a_node_has_a_management_address(lab: Lab) -> None:
    node(lab, "storage")["networks"] = {"overlay": "10.0.1.41"}
    assert "needs an address in the management network" in the_one(lab)
    node(lab, "storage")["networks"] = {"management": "none"}
    assert "needs an address in the management network" in the_one(lab)


def test_a_tunnel_end_has_an_overlay_address(lab: Lab) -> None:
    node(lab, "compute")["networks"]["overlay"] = "none"
    assert "runs neutron-l2 and needs an address in the overlay network" in the_one(lab)
    del lab["networks"]["overlay"]
    for name in ("controller", "compute"):
        del node(lab, name)["networks"]["overlay"]
    assert said(lab) == []


def test_a_provider_network_is_attached_without_address(lab: Lab) -> None:
    node(lab, "compute")["networks"]["provider"] = "203.0.113.31"
    assert "so it has no address; write provider: none" in the_one(lab)


def test_a_router_needs_the_provider_network(lab: Lab) -> None:
    del node(lab)["networks"]["provider"]
    assert "nodes.controller.runs[9]: neutron-l3 routes to 'provider'; attach" in the_one(lab)
    del node(lab, "compute")["networks"]["provider"]
    del lab["networks"]["provider"]
    assert "neutron-l3 routes to the provider network, but the lab has none" in the_one(lab)
    node(lab)["runs"].remove("neutron-l3")
    assert said(lab) == []


# components


@pytest.mark.parametrize("component", [c for c, rules in COMPONENTS.items() if rules.once])
def test_a_lab_has_one_of_a_component(lab: Lab, component: str) -> None:
    node(lab, "compute")["runs"].append(str(component))
    assert the_one(lab) == f"nodes.compute.runs[2]: {component} already runs on node 'controller'; a lab has only one"


def test_a_component_is_named_once_a_node(lab: Lab) -> None:
    node(lab, "compute")["runs"].append("neutron-l2")
    assert the_one(lab) == "nodes.compute.runs[2]: neutron-l2 is named twice on this node"


@pytest.mark.parametrize(
    ("component", "needed"), [(c, n) for c, rules in COMPONENTS.items() for n in rules.needs], ids=lambda c: str(c)
)
def test_what_a_component_needs_runs_somewhere(lab: Lab, component: str, needed: str) -> None:
    for each in lab["nodes"].values():
        each["runs"] = [c for c in each["runs"] if c != needed]
    matching = [line for line in said(lab) if f": {component} needs " in line]
    assert len(matching) == 1
    assert needed in matching[0]


def test_missing_components_are_named_together(lab: Lab) -> None:
    node(lab)["runs"] = ["keystone"]
    lab["nodes"] = {"controller": node(lab)}
    assert the_one(lab).endswith("keystone needs mariadb and memcached, which no node of the lab runs")


@pytest.mark.parametrize(
    ("name", "component"),
    [("compute", "nova-compute"), ("controller", "neutron-l3"), ("controller", "neutron-dhcp")],
)
def test_the_layer_2_agent_runs_beside_what_has_ports(lab: Lab, name: str, component: str) -> None:
    node(lab, name)["runs"].remove("neutron-l2")
    assert any(f"{component} needs neutron-l2 on the same node" in line for line in said(lab))


def test_a_lab_without_compute_nodes_is_fine(lab: Lab) -> None:
    del lab["nodes"]["compute"]
    assert said(lab) == []


def test_mitaka_has_no_placement(lab: Lab) -> None:
    lab |= {"release": "mitaka", "bases": ["centos7"], "drivers": ["libvirt"]}
    assert the_one(lab).startswith("nodes.controller.runs[5]: mitaka has no placement service")
    node(lab)["runs"].remove("placement")
    assert said(lab) == []


def test_rocky_needs_its_placement_placed(lab: Lab) -> None:
    lab |= {"release": "rocky", "bases": ["debian12"]}
    assert said(lab) == []
    node(lab)["runs"].remove("placement")
    assert "nova-controller needs placement" in the_one(lab)


# nodes that join later


def test_a_compute_node_may_join_later(lab: Lab) -> None:
    node(lab, "compute")["join"] = "later"
    assert said(lab) == []


@pytest.mark.parametrize(
    "component", sorted(str(c) for c, rules in COMPONENTS.items() if rules.once and not rules.joins)
)
def test_what_a_lab_is_set_up_with_does_not_join_later(lab: Lab, component: str) -> None:
    node(lab)["runs"].remove(component)
    lab["nodes"]["late"] = {
        "networks": {"management": "10.0.0.51", "overlay": "10.0.1.51", "provider": "none"},
        "runs": ["neutron-l2", component],
        "join": "later",
    }
    refused = f"nodes.late.runs[1]: {component} cannot join later: the catalog and other nodes are set up with it"
    assert f"{refused} from the start" in said(lab)


def test_a_storage_node_does_not_join_later(lab: Lab) -> None:
    lab["nodes"]["late"] = {
        "networks": {"management": "10.0.0.51"},
        "disks": {"swift1": "2 GiB"},
        "runs": ["swift-storage"],
        "join": "later",
    }
    assert any(
        line.startswith("nodes.late.runs[0]: swift-storage cannot join later: swift's rings") for line in said(lab)
    )


def test_a_lab_works_before_the_later_nodes_join(lab: Lab) -> None:
    node(lab, "storage")["runs"].remove("swift-storage")
    node(lab)["runs"].remove("swift-proxy")
    node(lab, "storage")["join"] = "later"
    at = f"nodes.controller.runs[{node(lab)['runs'].index('cinder-controller')}]"
    assert the_one(lab) == f"{at}: cinder-controller needs cinder-volume, which no node of the lab runs from the start"


def test_a_node_that_joins_later_may_bring_what_it_needs_itself(lab: Lab) -> None:
    text = {"networks": {"management": "10.0.0.51"}, "runs": ["etcd", "memcached"], "join": "later"}
    small = {**lab, "nodes": {"first": {"networks": {"management": "10.0.0.11"}, "runs": []}, "late": text}}
    assert said(small) == []


def test_some_node_is_there_from_the_start(lab: Lab) -> None:
    late = {"networks": {"management": "10.0.0.51"}, "runs": ["etcd"], "join": "later"}
    assert said({**lab, "nodes": {"late": late}}) == [
        "nodes: every node joins later; at least one must be there from the start"
    ]


def test_when_a_node_joins_is_one_of_two_words(lab: Lab) -> None:
    node(lab, "compute")["join"] = "latr"
    assert said(lab) == ["nodes.compute.join: unknown word 'latr'; did you mean 'later'? known: start, later"]


# nodes, disks and values


def test_no_node_is_called_localhost(lab: Lab) -> None:
    lab["nodes"]["localhost"] = lab["nodes"].pop("storage")
    assert the_one(lab).startswith("nodes.localhost: every machine calls itself localhost")


def test_a_hypervisor_has_memory_for_a_guest(lab: Lab) -> None:
    node(lab, "compute")["memory"] = "511 MiB"
    assert the_one(lab).startswith("nodes.compute.memory: 511 MiB cannot hold a guest")
    node(lab, "compute")["memory"] = "512 MiB"
    node(lab, "storage")["memory"] = "256 MiB"
    assert said(lab) == []


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


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_swift_has_one_storage_node_or_an_odd_number(lab: Lab, count: int) -> None:
    for i in range(1, count):
        lab["nodes"][f"object{i}"] = {
            "networks": {"management": f"10.0.0.{50 + i}"},
            "disks": {"d": "1 GiB"},
            "runs": ["swift-storage"],
        }
    if count % 2:
        assert said(lab) == []
    else:
        assert f"an even number of storage nodes ({count}) cannot hold 3 replicas" in the_one(lab)


def test_a_flavor_is_whole_mebibytes_and_fits_on_a_compute_node(lab: Lab) -> None:
    lab["fixtures"] = {"flavors": {"m1.odd": {"ram": 1000}}}
    assert the_one(lab).startswith('fixtures.flavors["m1.odd"].ram: 1000 bytes is not a whole number of MiB')
    lab["fixtures"] = {"flavors": {"m1.big": {"ram": "1 GiB", "disk": 11}}}
    assert "11 GiB does not fit on any compute node; the largest has 10 GiB" in the_one(lab)
    lab["fixtures"] = {"flavors": {"m1.fit": {"ram": "1 GiB", "disk": 10}}}
    assert said(lab) == []


@pytest.mark.parametrize("value", ["", "with blank", "a/b", "p@ss", "x" * 65, "ends\n", "ü"])
def test_a_secret_is_safe_in_urls_and_files(lab: Lab, value: str) -> None:
    lab["passwords"] = {"ADMIN_PASS": value}
    problem = the_one(lab)
    assert problem.startswith("passwords.ADMIN_PASS: ")
    assert "URLs and configuration files" in problem
    assert value not in problem or value == ""
    lab["passwords"] = {"ADMIN_PASS": "Az09_.-"}
    assert said(lab) == []


@pytest.mark.parametrize(
    ("name", "near"), [("admin_password", "ADMIN_PASS"), ("NOVA_DB_PASS", "NOVA_DBPASS"), ("rabbitpass", "RABBIT_PASS")]
)
def test_a_password_is_of_a_secret(lab: Lab, name: str, near: str) -> None:
    lab["passwords"] = {name: "unix1234"}
    assert the_one(lab).startswith(f"passwords.{name}: unknown secret '{name}'; did you mean '{near}'?")
    lab["passwords"] = {near: "unix1234", "admin_pass": "unix1234"}
    assert said(lab) == []


def test_the_known_secrets_are_those_of_the_plans() -> None:
    used = {name for path, base in variants() for name in planned(specify(path, base=base)).secrets()}
    assert sorted(SECRETS) == sorted(used)


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
