"""What neutron is told of physical networks: their VLANs, the sizes of their packets, their bridges."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
import yaml
from support import ROOT, planned, specify, write

from labctl.operations.node import Command, flatten
from labctl.topology.spec import LabSpec

ML2 = "/etc/neutron/plugins/ml2/ml2_conf.ini"
NEUTRON = "/etc/neutron/neutron.conf"


def spec_of(directory: Path, mechanism: str, networks: dict[str, dict[str, object]], base: str = "debian12") -> LabSpec:
    """zed-2node in virtual machines with other networks beside the management network."""
    content = yaml.safe_load((ROOT / "topologies" / "zed-2node.yaml").read_text())
    content["networks"] = {"management": content["networks"]["management"], **networks}
    content["options"] = {"mechanism": mechanism}
    content["drivers"] = ["libvirt"]
    wires = [name for name, network in networks.items() if not network.get("vlan")]
    for node in content["nodes"].values():
        node["networks"] = {"management": node["networks"]["management"], **dict.fromkeys(wires, "none")}
    return specify(write(directory, yaml.safe_dump(content, sort_keys=False)), base=base)


def settings(spec: LabSpec, path: str, node: str = "controller") -> dict[str, dict[str, str]]:
    (file,) = (file for file in planned(spec).files(node) if file.path == path)
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.read_string(file.content)
    return {name: dict(section) for name, section in parser.items()}


@pytest.fixture
def several(tmp_path: Path) -> LabSpec:
    return spec_of(
        tmp_path,
        "openvswitch",
        {
            "provider": {"cidr": "203.0.113.0/24", "vlans": ["200-299", 400]},
            "services": {"cidr": "198.51.100.0/24", "role": "provider", "vlan": 105},
            "storage": {"cidr": "192.0.2.0/24", "role": "provider", "physical": "physnet2", "mtu": 9000},
        },
    )


def test_physical_networks_are_flat_ones_and_carry_vlans(several: LabSpec) -> None:
    ml2 = settings(several, ML2)
    assert ml2["ml2_type_flat"]["flat_networks"] == "provider,physnet2"
    assert ml2["ml2_type_vlan"]["network_vlan_ranges"] == "provider:200:299,provider:400:400"
    agent = settings(several, "/etc/neutron/plugins/ml2/openvswitch_agent.ini")
    assert agent["ovs"]["bridge_mappings"] == "provider:br-eth1,physnet2:br-eth2"


def test_each_physical_network_has_a_bridge_with_its_card(several: LabSpec) -> None:
    (stage,) = (stage for stage in planned(several).stages if stage.name == "configure")
    titles = [o.title for o in flatten(tuple(stage.nodes["compute"])) if isinstance(o, Command)]
    assert [title for title in titles if " in the bridge " in title] == [
        "eth1 in the bridge br-eth1",
        "eth2 in the bridge br-eth2",
    ]


def test_a_tag_without_ranges_names_its_physical_network_alone(tmp_path: Path) -> None:
    networks: dict[str, dict[str, object]] = {
        "provider": {"cidr": "203.0.113.0/24"},
        "services": {"cidr": "198.51.100.0/24", "role": "provider", "vlan": 105},
    }
    made = spec_of(tmp_path, "linuxbridge", networks)
    assert settings(made, ML2)["ml2_type_vlan"]["network_vlan_ranges"] == "provider"
    agent = settings(made, "/etc/neutron/plugins/ml2/linuxbridge_agent.ini")
    assert agent["linux_bridge"]["physical_interface_mappings"] == "provider:eth1"


def test_neutron_knows_the_largest_packet_and_where_they_are_smaller(several: LabSpec, tmp_path: Path) -> None:
    assert settings(several, NEUTRON)["DEFAULT"]["global_physnet_mtu"] == "9000"
    assert settings(several, ML2)["ml2"]["path_mtu"] == "1500"
    assert settings(several, ML2)["ml2"]["physical_network_mtus"] == "provider:1500"
    jumbo = spec_of(tmp_path, "linuxbridge", {"provider": {"cidr": "203.0.113.0/24"}})
    assert "global_physnet_mtu" not in settings(jumbo, NEUTRON)["DEFAULT"]
    assert not {"path_mtu", "physical_network_mtus"} & settings(jumbo, ML2)["ml2"].keys()


def test_fixtures_make_each_provider_network_and_the_project_s_own() -> None:
    plan = planned(specify(ROOT / "topologies" / "epoxy-networks.yaml"))
    (stage,) = (stage for stage in plan.stages if stage.name == "fixtures")
    told = [line for call in stage.api for line in call.guide().splitlines()]
    assert [
        line for line in told if line.startswith(("openstack network", "openstack subnet", "openstack router"))
    ] == [
        "openstack network create --share --external --provider-physical-network provider "
        "--provider-network-type flat provider",
        "openstack subnet create --network provider --allocation-pool start=203.0.113.101,end=203.0.113.250 "
        "--gateway 203.0.113.1 --subnet-range 203.0.113.0/24 provider",
        "openstack subnet create --network provider --ip-version 6 --no-dhcp --gateway 2001:db8:0:113::1 "
        "--subnet-range 2001:db8:0:113::/64 provider-ipv6",
        "openstack network create --share --external --provider-physical-network provider "
        "--provider-network-type vlan --provider-segment 105 --mtu 1500 services",
        "openstack subnet create --network services --allocation-pool start=198.51.100.101,end=198.51.100.250 "
        "--gateway 198.51.100.1 --subnet-range 198.51.100.0/24 services",
        "openstack subnet create --network services --ip-version 6 --no-dhcp --gateway 2001:db8:0:105::1 "
        "--subnet-range 2001:db8:0:105::/64 services-ipv6",
        "openstack network create --project demo selfservice",
        "openstack subnet create --project demo --network selfservice --subnet-range 172.16.1.0/24 selfservice",
        "openstack subnet create --project demo --network selfservice --ip-version 6 --ipv6-ra-mode slaac "
        "--ipv6-address-mode slaac --subnet-range 2001:db8:0:a::/64 selfservice-ipv6",
        "openstack router create --project demo router",
        "openstack router add subnet router selfservice",
        "openstack router add subnet router selfservice-ipv6",
        "openstack router set --external-gateway provider --fixed-ip subnet=provider --fixed-ip "
        "subnet=provider-ipv6,ip-address=2001:db8:0:113::2 router",
    ]


def test_early_clients_say_the_same_of_tags_and_ipv6() -> None:
    plan = planned(specify(ROOT / "topologies" / "epoxy-networks.yaml"))
    (stage,) = (stage for stage in plan.stages if stage.name == "fixtures")
    told = "\n".join(call.early() for call in stage.api if hasattr(call, "early"))
    assert "--provider:network_type vlan --provider:segmentation_id 105 services" in told
    assert "neutron subnet-create --name services-ipv6 --ip-version 6 --disable-dhcp" in told
    assert "neutron router-interface-add router selfservice-ipv6" in told
