"""Mistakes of the Ussuri notes (docs/facts/seed-errata.md, 003) that an install cannot have."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_errata_train import rewrites, urls

from labctl import bases
from labctl.components import Component
from labctl.host import process
from labctl.operations.node import Command, Unit
from labctl.services.redhat.repositories import AWK
from labctl.topology.model import NetworkRole

if TYPE_CHECKING:
    from conftest import Lab


def words(lab: Lab, program: str) -> list[list[str]]:
    """The arguments of every call of a program."""
    return [
        m.split() for m in re.findall(rf"(?:^|[;&|(] *|\bdo |\bthen ){program} ([^;&|)\n]*)", lab.typed, re.MULTILINE)
    ]


# --- base ------------------------------------------------------------------------------------------


def test_errata_3_1_systemctl_gets_options_that_it_has(lab: Lab) -> None:
    """`systemctl restart -noew chronyd`."""
    calls = words(lab, "systemctl")
    assert calls
    assert {w for call in calls for w in call if w.startswith("-")} <= {"--now", "-q"}


def test_errata_3_2_firewall_cmd_gets_options_that_it_has(ussuri: Lab) -> None:
    """`firewall-cmd -reload`."""
    calls = words(ussuri, "firewall-cmd")
    assert calls
    options = {w.partition("=")[0] for call in calls for w in call}
    assert options == {"-q", "--permanent", "--add-port", "--reload"}


def test_errata_3_3_only_the_others_follow_the_controller(lab: Lab) -> None:
    """With `pool controller` on the controller too, no node has a time source."""
    for node, files in lab.files.items():
        text = files["/etc/chrony.conf"]
        if node == "controller":
            assert "local stratum" in text
            assert not re.search(r"^(server|pool)\b.*\bcontroller\b", text, re.MULTILINE)
        else:
            assert re.findall(r"^(?:server|pool) .*$", text, re.MULTILINE) == ["server controller iburst"]


@pytest.mark.parametrize("name", ["PowerTools", "powertools"])
def test_errata_3_5_powertools_is_found_in_both_spellings(name: str, ussuri: Lab, tmp_path: Path) -> None:
    """The repository's id changed its case in 8.3."""
    (tmp_path / "vault.awk").write_text(ussuri.files["controller"][AWK])
    system = bases.get("centos8", "rdo").redhat
    assert system is not None
    text = f"[{name}]\nname=x\nmirrorlist=http://mirrorlist.centos.org/?x\nenabled=0\ngpgcheck=1\n"
    on = f" {' '.join(system.enabled)} "
    awk = ["awk", "-v", "vault=http://v/8", "-v", f"on={on}", "-v", "off=", "-f", tmp_path / "vault.awk"]
    said = process.run(awk, stdin=text).stdout.splitlines()
    assert [line for line in said if line.startswith("enabled")] == ["enabled=1"]


def test_errata_3_8_repositories_are_rewritten_before_and_after_the_release_package(ussuri: Lab) -> None:
    """As 1-4, with dnf."""
    assert rewrites(ussuri)[1] == "centos-release-openstack-ussuri"
    assert [bool(re.search("vault", t)) for t in rewrites(ussuri)] == [True, False, True]


# --- keystone and glance ---------------------------------------------------------------------------


def test_errata_3_17_keystones_cache_has_a_backend(ussuri: Lab) -> None:
    """Servers without a backend leave the cache off."""
    for option, wanted in (("enabled", "true"), ("backend", "dogpile.cache.memcached")):
        assert ussuri.value("controller", "keystone.conf", "cache", option) == wanted


def test_errata_3_19_glance_reads_its_account(ussuri: Lab) -> None:
    """`[keystone_auth_token]` is an unknown section."""
    assert ussuri.value("controller", "glance-api.conf", "keystone_authtoken", "username") == "glance"
    assert not [s for s in ussuri.settings if "auth_token" in s.section]


def test_errata_3_20_accounts_have_no_blank(lab: Lab) -> None:
    """`glance@ '%'` is a syntax error."""
    grants = [s for s in lab.sql if s.startswith("GRANT")]
    assert grants
    assert all(re.search(r" TO '[a-z]+'@'(%|localhost)' IDENTIFIED", s) for s in grants)


def test_errata_3_24_connections_are_in_sections_that_are_read(lab: Lab) -> None:
    """`[databases]` is an unknown section."""
    sections = {s.section for s in lab.settings if s.option == "connection"}
    assert sections <= {"database", "api_database", "placement_database"}
    assert "database" in sections


# --- nova ------------------------------------------------------------------------------------------


def test_errata_3_25_the_compute_endpoint_is_the_releases_own(ussuri: Lab) -> None:
    """`$(tenant_id)s` unquoted runs a command."""
    assert urls(ussuri, "compute") == ["http://controller:8774/v2.1"] * 3


def test_errata_3_27_nova_reads_its_account(ussuri: Lab) -> None:
    """`[keystone_auth_token]` again."""
    for node in ("controller", "compute"):
        assert ussuri.value(node, "nova.conf", "keystone_authtoken", "username") == "nova"


def test_errata_3_28_placements_region_has_its_name(ussuri: Lab) -> None:
    """`os_region_name` was removed in 18.0.0."""
    for node in ("controller", "compute"):
        assert ussuri.value(node, "nova.conf", "placement", "region_name") == "RegionOne"
        assert ussuri.value(node, "nova.conf", "placement", "os_region_name") is None


def test_errata_3_34_every_node_has_its_own_address_in_DEFAULT(lab: Lab) -> None:
    """No service reads it in `[default]`, and a copied file keeps the controller's address."""
    for node in lab.spec.running(Component.NOVA_COMPUTE, Component.NOVA_CONTROLLER):
        assert lab.value(node.name, "nova.conf", "DEFAULT", "my_ip") == str(lab.spec.address(node))
    assert not [s for s in lab.settings if s.section.lower() == "default" and s.section != "DEFAULT"]


def test_errata_3_40_addresses_are_the_labs_own(lab: Lab) -> None:
    """10.10.10.30 belongs to another lab."""
    networks = [n.cidr for n in lab.spec.networks.values()]
    own = (lab.spec.fixtures.internal_cidr, *networks)
    found = set()
    for files in lab.files.values():
        for content in files.values():
            found |= set(re.findall(r"(?<![\d.])(?:10|192\.168|172\.16)(?:\.\d+){2,3}(?![\d.])", content))
    addresses = [ip_address(a) for a in found if a.count(".") == 3]
    assert addresses
    assert all(any(a in network for network in own) for a in addresses)
    for node in lab.spec.nodes.values():
        card = lab.files[node.name]["/etc/sysconfig/network-scripts/ifcfg-eth0"]
        assert f"IPADDR={lab.spec.address(node)}\n" in card
        assert f"GATEWAY={lab.spec.management.gateway}\n" in card


def test_errata_3_41_a_card_has_one_name(lab: Lab) -> None:
    """ens34, ens160 and ens32 for the same card; here a card is known by its MAC address."""
    for node in lab.spec.nodes.values():
        for card in node.interfaces:
            text = lab.files[node.name][f"/etc/sysconfig/network-scripts/ifcfg-{card.name}"]
            assert re.findall(r"^(?:NAME|DEVICE)=(.*)$", text, re.MULTILINE) == [card.name] * 2
            assert f"HWADDR={card.mac}" in text
    known = {c.name for n in lab.spec.nodes.values() for c in n.interfaces}
    assert set(re.findall(r"\b(?:eth|ens|enp)\d\w*", lab.typed)) <= known


# --- neutron ---------------------------------------------------------------------------------------


def test_errata_3_45_no_section_is_called_default(lab: Lab) -> None:
    """`[default]` is a separate section, not `[DEFAULT]`."""
    assert "[default]" not in "".join(text for files in lab.files.values() for text in files.values())


def test_errata_3_46_options_that_went_are_not_set(ussuri: Lab) -> None:
    """use_neutron and its companions were removed by 21.0.0."""
    gone = {"use_neutron", "firewall_driver", "linuxnet_interface_driver"}
    assert not [s for s in ussuri.settings if s.file.endswith("/nova.conf") and s.option in gone]


def test_errata_3_48_a_value_stands_on_its_options_line(lab: Lab) -> None:
    """On its own line the value is a syntax error, or belongs to the option above."""
    for node, path, content in lab.inis():
        for line in content.splitlines():
            assert not line or re.match(r"#|\[[^]]+\]$|[A-Za-z][\w.]* =", line), f"{node}:{path}: {line}"


def test_errata_3_49_agents_have_their_account(ussuri: Lab) -> None:
    """`[keystone_auth_token]` on the network node."""
    assert ussuri.value("network", "neutron.conf", "keystone_authtoken", "username") == "neutron"


def test_errata_3_50_every_option_has_a_section(lab: Lab) -> None:
    """metadata_agent.ini begins with options."""
    assert not [s for s in lab.settings if not s.section]
    secret = "metadata_proxy_shared_secret"
    (agent,) = (s for s in lab.settings if s.option == secret and s.file.endswith("metadata_agent.ini"))
    assert agent.section == "DEFAULT"


def test_errata_3_51_the_router_agent_has_its_driver(lab: Lab) -> None:
    """Without it the agent exits at once: there is no default."""
    node = lab.spec.host_of(Component.NEUTRON_L3).name
    assert lab.value(node, "l3_agent.ini", "DEFAULT", "interface_driver")


def tunnels(lab: Lab) -> dict[str, str]:
    return {s.node: s.value for s in lab.settings if s.option == "local_ip"}


def test_errata_3_52_a_tunnel_ends_at_an_address_of_its_node(lab: Lab) -> None:
    """The agent refuses an address that no card has."""
    agents = lab.spec.running(Component.NEUTRON_L2)
    assert tunnels(lab) == {n.name: str(lab.spec.address(n, NetworkRole.OVERLAY)) for n in agents}


def test_errata_3_53_no_two_tunnels_end_at_one_address(lab: Lab) -> None:
    """The compute node has the network node's address."""
    assert len(set(tunnels(lab).values())) == len(tunnels(lab)) > 0


def test_errata_3_54_arp_spoofing_is_no_option(lab: Lab) -> None:
    """Removed in pike."""
    assert not [s for s in lab.settings if s.option == "prevent_arp_spoofing"]


def bridges(lab: Lab) -> dict[str, Command]:
    return {
        node: o
        for node in lab.spec.nodes
        for o in lab.operations("configure", node)
        if isinstance(o, Command) and "ovs-vsctl" in o.run
    }


def test_errata_3_56_the_bridge_takes_the_card_that_the_files_configure(ussuri: Lab) -> None:
    """Port ens32, file of ens160."""
    made = bridges(ussuri)
    assert set(made) == {"network", "compute"}
    for node, command in made.items():
        card = ussuri.spec.interface(ussuri.spec.nodes[node], NetworkRole.PROVIDER)
        assert card is not None
        assert f"add-port br-{card.name} {card.name}" in command.run
        assert ussuri.value(node, "openvswitch_agent.ini", "ovs", "bridge_mappings") == f"physnet1:br-{card.name}"
        assert f"DEVICE={card.name}\n" in ussuri.files[node][f"/etc/sysconfig/network-scripts/ifcfg-{card.name}"]


def test_errata_3_58_nothing_sets_addresses_at_boot_but_the_cards_own_files(ussuri: Lab) -> None:
    """A unit without ordering loses the race; here the bridge has no address, and openvswitch runs before it exists."""
    units = [p for files in ussuri.files.values() for p in files if p.startswith("/etc/systemd/system/")]
    assert not [p for p in units if "interface" in p or "network" in p]
    for node, command in bridges(ussuri).items():
        done = [operation.title for operation in ussuri.operations("configure", node)]
        assert done.index("Open vSwitch runs") < done.index(command.title)
        agents = [o.name for o in ussuri.operations("compute", node) if isinstance(o, Unit)]
        assert "neutron-openvswitch-agent" in agents  # a later stage than the bridge's


def without_firewalld(lab: Lab) -> set[str]:
    return {node for node in lab.spec.nodes if "no firewalld beside neutron's agent" in lab.titles("sql", node)}


def test_errata_3_65_firewalld_is_asked_only_where_it_runs(lab: Lab) -> None:
    """firewalld is disabled on network and compute, and called later: exit 252."""
    off = without_firewalld(lab)
    assert off == {n.name for n in lab.spec.running(Component.NEUTRON_L2)}
    for node in lab.spec.nodes:
        asked = [o for o in lab.operations("sql", node) if "firewall-cmd" in o.guide()]
        assert bool(asked) == (node not in off)
        if asked:
            titles = lab.titles("sql", node)
            assert titles.index("firewalld runs") < titles.index(asked[0].title)


def test_errata_3_69_no_keypair_is_named_twice(lab: Lab) -> None:
    """MyKey and Mykey: an install creates no key pair, and a test uses the object it created."""
    assert "keypair" not in lab.typed
    assert "--key " not in lab.typed


# --- cinder ----------------------------------------------------------------------------------------


def test_errata_3_74_volume_endpoints_keep_their_template(labs: dict[str, Lab]) -> None:
    """Stored without its `%`, every call returns 404."""
    for name, kind, url in (
        ("ussuri-6node", "volumev3", "http://controller:8776/v3/%(project_id)s"),
        ("train-2node", "volumev3", "http://controller:8776/v3/%(project_id)s"),
        ("mitaka-3node", "volumev2", "http://controller:8776/v2/%(tenant_id)s"),
        ("mitaka-3node", "volume", "http://controller:8776/v1/%(tenant_id)s"),
    ):
        assert urls(labs[name], kind) == [url] * 3


def test_errata_3_76_iscsi_portals_are_addresses(lab: Lab) -> None:
    """LIO needs an address, not `compute`."""
    nodes = lab.spec.running(Component.CINDER_VOLUME)
    for node in nodes:
        portal = [s.value for s in lab.settings if s.node == node.name and s.option.endswith("ip_address")]
        assert portal == [str(lab.spec.address(node))]


def test_errata_3_77_cinder_sees_its_back_ends(lab: Lab) -> None:
    """Under `[default]` cinder-volume finds no back ends and exits."""
    for node in lab.spec.running(Component.CINDER_VOLUME):
        assert lab.value(node.name, "cinder.conf", "DEFAULT", "enabled_backends") == "lvm"
        assert lab.value(node.name, "cinder.conf", "lvm", "volume_group") == "cinder-volumes"


def test_errata_3_80_exports_are_there_after_a_restart(lab: Lab) -> None:
    """target.service is not enabled."""
    for node in lab.spec.running(Component.CINDER_VOLUME):
        assert "target" in [o.name for o in lab.operations("compute", node.name) if isinstance(o, Unit)]
    if lab.spec.running(Component.CINDER_VOLUME):
        assert re.search(r"^systemctl enable target$", lab.typed, re.MULTILINE)


def test_errata_3_82_the_volume_node_asks_no_firewalld_that_is_off(ussuri: Lab) -> None:
    """As 3-65, for cinder."""
    assert "compute" in without_firewalld(ussuri)
    assert not [line for nodes, line in ussuri.lines if "compute" in nodes.split("&") and "firewall-cmd" in line]


# --- swift -----------------------------------------------------------------------------------------


def test_errata_3_88_swift_asks_who_calls(labs: dict[str, Lab]) -> None:
    """The packaged pipeline allows everyone to read and write."""
    proxies = [lab for lab in labs.values() if lab.spec.has(Component.SWIFT_PROXY)]
    assert proxies
    for lab in proxies:
        node = lab.spec.host_of(Component.SWIFT_PROXY).name
        pipeline = (lab.value(node, "proxy-server.conf", "pipeline:main", "pipeline") or "").split()
        assert pipeline.index("authtoken") < pipeline.index("keystoneauth") < pipeline.index("proxy-server")
        sections = {s.section for s in lab.settings if s.file.endswith("/proxy-server.conf")}
        assert {f"filter:{name}" for name in pipeline[:-1]} <= sections
        assert lab.value(node, "proxy-server.conf", "filter:authtoken", "username") == "swift"


def test_errata_3_90_rings_name_the_storage_nodes_of_this_lab(ussuri: Lab) -> None:
    """No node has 10.10.10.50 to 52."""
    adds = re.findall(
        r"swift-ring-builder \S+ add --region (\d) --zone (\d) --ip (\S+) --port (\d+) --device (\S+)", ussuri.typed
    )
    nodes = ussuri.spec.running(Component.SWIFT_STORAGE)
    wanted = [("1", str(zone), str(ussuri.spec.address(n))) for zone, n in enumerate(nodes, start=1)]
    for port in ("6200", "6201", "6202"):
        assert [add[:3] for add in adds if add[3] == port] == wanted
    assert {add[4] for add in adds} == {"device"}


def test_errata_3_93_a_mount_is_one_line(labs: dict[str, Lab], mitaka: Lab) -> None:
    """A wrapped fstab line is two invalid ones; swift's disks are mounted by a unit, nova's by one line."""
    (line,) = re.findall(r'echo "(UUID=[^"]*)" >>/etc/fstab', mitaka.typed)
    assert line.split()[1:] == ["/var/lib/nova/instances", "ext4", "defaults", "0", "2"]
    for lab in labs.values():
        assert lab.typed.count("/etc/fstab") == lab.typed.count(">>/etc/fstab")


def test_errata_3_96_rsyncd_is_told_everything_once(ussuri: Lab) -> None:
    """uid, gid, log and pid twice; `address = storage1 or storage2 or storage3`."""
    for node in ussuri.spec.running(Component.SWIFT_STORAGE):
        text = ussuri.files[node.name]["/etc/rsyncd.conf"]
        keys = re.findall(r"^([a-z ]+) =", text.partition("\n[")[0], re.MULTILINE)
        assert len(keys) == len(set(keys)) >= 5
        assert f"address = {ussuri.spec.address(node)}\n" in text


def test_errata_3_98_labels_are_the_whole_trees(ussuri: Lab) -> None:
    """Only the mount point is labelled, not its content."""
    assert "semanage fcontext -a -t swift_data_t '/srv/node(/.*)?'" in ussuri.typed
    assert re.search(r"restorecon -R /srv/node\b", ussuri.typed)


def test_errata_3_101_no_object_is_made_the_wrong_way_round(lab: Lab) -> None:
    """`object create FILE CONTAINER` has its arguments swapped; an install creates no object."""
    assert "openstack object create" not in lab.typed


# --- heat ------------------------------------------------------------------------------------------


def test_errata_3_107_heats_endpoints_have_no_prefix_of_swifts(labs: dict[str, Lab]) -> None:
    """The AUTH_ prefix belongs to swift."""
    for name, host in (("ussuri-6node", "network"), ("train-2node", "controller")):
        assert urls(labs[name], "orchestration") == [f"http://{host}:8004/v1/%(tenant_id)s"] * 3
        assert urls(labs[name], "cloudformation") == [f"http://{host}:8000/v1"] * 3


def test_errata_3_110_no_watch_server_is_named(labs: dict[str, Lab]) -> None:
    """It was removed with the CloudWatch API."""
    assert not [s for lab in labs.values() for s in lab.settings if s.option == "heat_watch_server_url"]


def test_errata_3_113_the_sample_stacks_objects_exist(ussuri: Lab) -> None:
    """Neither m1.tiny nor the network exists."""
    assert re.search(r"^openstack flavor create .* m1\.tiny$", ussuri.typed, re.MULTILINE)
    assert re.search(r"^openstack image create .* cirros$", ussuri.typed, re.MULTILINE)
    assert re.search(r"^openstack network create .* int_net$", ussuri.typed, re.MULTILINE)


def test_errata_3_115_the_network_node_asks_no_firewalld_that_is_off(ussuri: Lab) -> None:
    """As 3-65, for heat."""
    assert "network" in without_firewalld(ussuri)
    assert not [line for nodes, line in ussuri.lines if "network" in nodes.split("&") and "firewall-cmd" in line]
