"""Mistakes of the Rocky notes (docs/facts/seed-errata.md, 004) that an install cannot have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.components import Component
from labctl.topology.model import Mechanism, NetworkRole

if TYPE_CHECKING:
    from conftest import Lab


def test_errata_4_1_no_line_number_of_an_editor_is_in_a_file(lab: Lab) -> None:
    """`1254 my_ip=…`."""
    assert not [s for s in lab.settings if re.match(r"\d", s.option)]


def test_errata_4_5_the_providers_card_has_no_address(lab: Lab) -> None:
    """The agent moves a card's address to its bridge, and the session is cut."""
    for node in lab.spec.running(Component.NEUTRON_L2):
        card = lab.spec.interface(node, NetworkRole.PROVIDER)
        if card is None:
            continue
        assert card.address is None
        text = lab.files[node.name][f"/etc/sysconfig/network-scripts/ifcfg-{card.name}"]
        assert "IPADDR" not in text
        if lab.spec.mechanism is Mechanism.LINUXBRIDGE:
            mapping = lab.value(node.name, "linuxbridge_agent.ini", "linux_bridge", "physical_interface_mappings")
            assert mapping is not None
            assert mapping.endswith(f":{card.name}")


def test_errata_4_6_agents_and_server_speak_of_the_same_networks(lab: Lab) -> None:
    """A linuxbridge node in an openvswitch cloud: binding_failed."""
    server = lab.spec.host_of(Component.NEUTRON_SERVER).name
    mechanisms = (lab.value(server, "ml2_conf.ini", "ml2", "mechanism_drivers") or "").split(",")
    flat = lab.value(server, "ml2_conf.ini", "ml2_type_flat", "flat_networks")
    agents = {p for files in lab.files.values() for p in files if p.endswith("_agent.ini") and "/ml2/" in p}
    assert {Path(p).name for p in agents} == {f"{mechanisms[0]}_agent.ini"}
    for option in ("physical_interface_mappings", "bridge_mappings"):
        assert {s.value.partition(":")[0] for s in lab.settings if s.option == option} <= {flat}
