"""Open vSwitch and OVN on nodes, in containers and in virtual machines."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from real import golden_image
from support import ROOT, planned, specify

from labctl.images.debian import _part
from labctl.operations.node import Command, File, Unit, flatten
from labctl.services.openvswitch import COMMANDS, HOOK, MODPROBE, PATH
from labctl.topology.spec import LabSpec

EPOXY = ROOT / "topologies" / "epoxy-2node.yaml"
USSURI = ROOT / "topologies" / "ussuri-6node.yaml"


def commands(spec: LabSpec, node: str) -> dict[str, Command]:
    """The configure stage's commands on a node, in order."""
    (stage,) = (stage for stage in planned(spec).stages if stage.name == "configure")
    return {o.title: o for o in flatten(tuple(stage.nodes[node])) if isinstance(o, Command)}


def files(spec: LabSpec, node: str) -> dict[str, File]:
    return {file.path: file for file in planned(spec).files(node)}


def units(spec: LabSpec, node: str) -> set[str]:
    stages = planned(spec).stages
    return {o.name for stage in stages for o in flatten(tuple(stage.nodes.get(node, ()))) if isinstance(o, Unit)}


def settings(file: File) -> dict[str, str]:
    lines = (line.partition(" = ") for line in file.content.splitlines() if " = " in line and line[0] != "#")
    return {key: value for key, _, value in lines}


@pytest.fixture(scope="module")
def contained() -> LabSpec:
    return specify(EPOXY)


@pytest.fixture(scope="module")
def machines() -> LabSpec:
    return specify(EPOXY, base="debian13", driver="libvirt")


def test_offload_is_set_before_the_daemon_of_the_datapath_starts(contained: LabSpec) -> None:
    titles = list(commands(contained, "compute"))
    offload = next(title for title in titles if "segmentation offload" in title)
    assert titles.index(offload) < titles.index("Open vSwitch runs") < titles.index("eth2 in the bridge br-eth2")
    made = commands(contained, "compute")[offload].run
    assert made.index("stop openvswitch-switch") < made.index("userspace-tso-enable=true")
    assert f"{COMMANDS}/modprobe" in files(contained, "compute")


SCRIPTS = "usr/share/openvswitch/scripts"


@pytest.mark.system
@pytest.mark.parametrize(
    ("modules", "ours", "starts"), [(False, False, True), (True, False, False), (True, True, True)]
)
def test_a_kernel_with_modules_but_not_this_one_does_not_keep_open_vswitch_from_starting(
    tmp_path: Path, modules: bool, ours: bool, starts: bool
) -> None:
    """The package's own script, told of another kernel, with a modprobe that finds no module."""
    tree = next(layer / "tree" for layer in golden_image() if (layer / "tree" / SCRIPTS).is_dir())
    shutil.copytree(tree / SCRIPTS, tmp_path / "scripts")
    script = tmp_path / "scripts/ovs-kmod-ctl"
    kernel = {"/proc/modules": tmp_path / "modules", "/sys/module/": tmp_path / "module/"}
    text = script.read_text()
    for path, other in kernel.items():
        assert path in text
        text = text.replace(path, str(other))
    script.write_text(text)
    if modules:
        (tmp_path / "modules").write_text("overlay 204800 1 - Live 0x0\n")
    places = {"ours": MODPROBE, "system": '#!/bin/sh\necho "FATAL: Module $1 not found"\nexit 1\n'}
    for name, content in places.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "modprobe").write_text(content)
        (tmp_path / name / "modprobe").chmod(0o755)
    found = f"{tmp_path}/system:/usr/sbin:/usr/bin:/sbin:/bin"
    if ours:  # in the unit's order
        assert PATH.index(COMMANDS) < PATH.index("/usr/sbin")
        found = f"{tmp_path}/ours:{found}"
    done = subprocess.run(
        ["sh", script, "insert"], env={"PATH": found}, capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode == 0) is starts, done
    assert ("no loadable module support" in done.stdout) is (not modules)


def test_machines_with_their_own_kernel_use_its_datapath(machines: LabSpec) -> None:
    made = commands(machines, "compute")
    assert not [title for title in made if "offload" in title or "eth1" in title]
    assert "datapath_type=system" in made["eth2 in the bridge br-eth2"].run
    assert f"{COMMANDS}/modprobe" not in files(machines, "compute")


def test_the_card_of_tunnels_is_in_a_bridge_that_has_its_address(contained: LabSpec) -> None:
    made = commands(contained, "compute")
    assert list(made).index("eth1 in the bridge br-eth1") < list(made).index("10.0.1.31 on the bridge br-eth1")
    text = files(contained, "compute")["/etc/systemd/system/labctl-br-eth1.service"].content
    assert "address replace 10.0.1.31/24 dev br-eth1" in text
    assert "PartOf=ovs-vswitchd.service" in text


def test_a_chassis_says_who_it_is_and_only_the_gateway_is_one(contained: LabSpec) -> None:
    compute, controller = (commands(contained, node)["chassis of OVN"].run for node in ("compute", "controller"))
    for word in ("system-id=compute", "ovn-encap-ip=10.0.1.31", "ovn-remote=tcp:10.0.0.11:6642"):
        assert f"external_ids:{word}" in compute
    assert "ovn-bridge-mappings=provider:br-eth2" in compute
    assert "ovn-bridge-datapath-type=netdev" in compute
    assert "enable-chassis-as-gw" in controller
    assert "enable-chassis-as-gw" not in compute


def test_ovn_has_no_agents_but_for_metadata(contained: LabSpec) -> None:
    assert "neutron-ovn-metadata-agent" in units(contained, "compute")
    assert "neutron-ovn-metadata-agent" not in units(contained, "controller")
    both = units(contained, "compute") | units(contained, "controller")
    agents = {"neutron-l3-agent", "neutron-dhcp-agent", "neutron-metadata-agent", "neutron-rpc-server"}
    assert not both & agents
    assert {"ovn-northd", "ovn-controller", "neutron-ovn-maintenance-worker", "neutron-api"} <= both
    assert "/etc/neutron/l3_agent.ini" not in files(contained, "controller")


def test_northd_stops_without_the_databases(contained: LabSpec) -> None:
    """As packaged its stop ends them, and systemd does not start again what ended well: seen on a new lab."""
    path = "/etc/systemd/system/ovn-northd.service.d/labctl.conf"
    lines = files(contained, "controller")[path].content.splitlines()
    assert lines[:2] == ["[Service]", "ExecStop="]
    assert lines[2].startswith("ExecStop=/usr/share/ovn/scripts/ovn-ctl stop_northd --ovn-manage-ovsdb=no")
    assert path not in files(contained, "compute")


def test_the_agents_bridge_has_all_its_protocols_before_the_agent_starts(contained: LabSpec) -> None:
    """One that is added while the agent runs makes Open vSwitch connect anew, and the agent hangs."""
    made = commands(specify(USSURI), "network")
    bridge = next(title for title in made if "br-int" in title)
    assert list(made).index("Open vSwitch runs") < list(made).index(bridge)
    assert "protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14" in made[bridge].run
    assert "datapath_type=netdev" in made[bridge].run
    assert not [title for title in commands(contained, "compute") if "br-int" in title]  # ovn-controller makes it


def test_without_tunnels_networks_are_vlans_of_the_provider_network() -> None:
    spec = specify(USSURI)
    assert spec.userspace_datapath
    ml2 = settings(files(spec, "controller")["/etc/neutron/plugins/ml2/ml2_conf.ini"])
    assert ml2["tenant_network_types"] == "vlan"
    assert ml2["network_vlan_ranges"] == "physnet1:1000:1999"
    agent = settings(files(spec, "compute")["/etc/neutron/plugins/ml2/openvswitch_agent.ini"])
    assert agent["datapath_type"] == "netdev"
    assert not {"local_ip", "tunnel_types"} & agent.keys()
    for name in ("l3_agent.ini", "dhcp_agent.ini"):
        assert settings(files(spec, "network")[f"/etc/neutron/{name}"])["ovs_use_veth"] == "true"


def test_units_of_an_image_start_no_other_nodes_daemons(tmp_path: Path) -> None:
    place = tmp_path / "usr/lib/systemd/system"
    place.mkdir(parents=True)
    unit = "[Unit]\nAfter=keystone.service mysql.service\nWants={}network-online.target \nWants={}\n[Service]\nUser=x\n"
    (place / "agent.service").write_text(unit.format("mysql.service keystone.service ", "rabbitmq-server.service"))
    (place / "alias.service").symlink_to("agent.service")
    _part(tmp_path)
    assert (place / "agent.service").read_text() == unit.format("", "")
    assert (place / "alias.service").is_symlink()


@pytest.mark.parametrize(("number", "wanted"), [("7", "30007"), ("30007", "7"), ("", None), ("-1", None), ("[]", None)])
def test_a_machine_that_starts_again_gets_another_port(tmp_path: Path, number: str, wanted: str | None) -> None:
    """A port whose device is made anew is dead (docs/platform.md); one that is not there yet has no number."""
    asked = tmp_path / "asked"
    (tmp_path / "ovs-vsctl").write_text(
        f'#!/bin/sh\ncase "$*" in *get*) echo \'{number}\' ;; *) echo "$*" >{asked} ;; esac\n'
    )
    (tmp_path / "ovs-vsctl").chmod(0o755)
    domain = "<disk><target dev='vda' bus='virtio'/></disk>\n<interface>\n  <target dev='tap1a-2'/>\n</interface>\n"
    for stage in ("prepare", "started"):
        words = ["sh", "-c", HOOK, "qemu", "instance-1", stage, "begin", "-"]
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        subprocess.run(words, input=domain, text=True, env=env, check=True, timeout=30)
        told = asked.read_text() if asked.exists() else ""
        assert told.rpartition("ofport_request=")[2].strip() == (wanted or "")
        assert "interface tap1a-2 " in told or not wanted
        asked.unlink(missing_ok=True)
        wanted = None
