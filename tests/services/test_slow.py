"""Services of emulated machines wait as long as the machines are slow; those of others keep their own limits."""

from __future__ import annotations

from collections.abc import Iterator
from configparser import ConfigParser

import pytest
from support import ROOT, planned, whole

from labctl.operations.node import File
from labctl.operations.openstack import DhcpPlugged
from labctl.topology.spec import LabSpec

TOPOLOGY = ROOT / "topologies" / "zed-2node.yaml"
FILES = ("nova.conf", "neutron.conf", "cinder.conf", "heat.conf", "proxy-server.conf")


def settings(spec: LabSpec) -> Iterator[tuple[str, str, str, str]]:
    """(file, section, option, value) of what the nodes' services read."""
    for node in spec.nodes:
        for file in planned(spec).files(node):
            name = file.path.rpartition("/")[2]
            if name not in FILES:
                continue
            parser = ConfigParser(interpolation=None, strict=False, allow_no_value=True, default_section="")
            parser.read_string(file.content)
            for section in parser.sections():
                for option, value in parser.items(section):
                    yield name, section, option, value or ""


@pytest.mark.parametrize("patience", [1.0, 12.0])
def test_limits_between_services_fit_the_machines(patience: float) -> None:
    found = set(settings(whole(TOPOLOGY, "debian12").model_copy(update={"patience": patience, "own_kernel": True})))
    limits = {
        ("neutron.conf", "DEFAULT", "rpc_response_timeout", "720"),
        ("neutron.conf", "DEFAULT", "agent_down_time", "900"),
        ("neutron.conf", "agent", "report_interval", "60"),
        ("nova.conf", "DEFAULT", "rpc_response_timeout", "720"),
        ("nova.conf", "DEFAULT", "service_down_time", "720"),
        ("nova.conf", "DEFAULT", "vif_plugging_timeout", "3600"),
        ("nova.conf", "DEFAULT", "update_resources_interval", "720"),
        ("cinder.conf", "DEFAULT", "service_down_time", "720"),
        ("cinder.conf", "DEFAULT", "periodic_interval", "720"),
        ("heat.conf", "DEFAULT", "engine_life_check_timeout", "24"),
        ("proxy-server.conf", "app:proxy-server", "conn_timeout", "6"),
    }
    if patience > 1:
        assert limits <= found
    else:
        names = {limit[:3] for limit in limits}
        assert not [seen for seen in found if seen[:3] in names]


@pytest.mark.parametrize(("patience", "seconds"), [(1.0, None), (10.0, 3000)])
def test_units_have_time_to_start_before_the_first_one_does(patience: float, seconds: int | None) -> None:
    """Bug: 2026.1's nova-compute took longer than systemd's five minutes, and was killed each time."""
    stages = planned(whole(TOPOLOGY, "debian12").model_copy(update={"patience": patience})).stages
    assert stages[0].name == "prepare"
    for items in stages[0].nodes.values():
        titles = [item.title for item in items]
        texts = [i.content for i in items if isinstance(i, File) and i.path.startswith("/etc/systemd/system.conf.d/")]
        assert texts == ([f"[Manager]\nDefaultTimeoutStartSec={seconds}\n"] if seconds else [])
        assert (f"units have {seconds} s to start" in titles) is bool(seconds)


@pytest.mark.parametrize(("patience", "limit"), [(1.0, set()), (12.0, {"0"})])
def test_no_connection_to_the_message_bus_needs_signs_of_life(patience: float, limit: set[str]) -> None:
    """Bug: clients sent one every 150 s, and the server, with its own limit, closed each connection after 120 s."""
    found = settings(whole(TOPOLOGY, "debian12").model_copy(update={"patience": patience}))
    assert {seen[3] for seen in found if seen[2] == "heartbeat_timeout_threshold"} == limit


@pytest.mark.parametrize(("patience", "waited"), [(1.0, []), (12.0, [("provider",)])])
def test_nobody_asks_an_emulated_dhcp_agent_for_more_before_its_first_network_is_served(
    patience: float, waited: list[tuple[str, ...]]
) -> None:
    stages = planned(whole(TOPOLOGY, "debian12").model_copy(update={"patience": patience})).stages
    assert [o.networks for s in stages for o in s.api if isinstance(o, DhcpPlugged)] == waited


def test_an_agent_is_not_called_dead_before_it_has_missed_several_reports() -> None:
    found = {seen[:3]: seen[3] for seen in settings(whole(TOPOLOGY, "debian12").model_copy(update={"patience": 3.0}))}
    down = int(found["neutron.conf", "DEFAULT", "agent_down_time"])
    assert down > 2 * int(found["neutron.conf", "agent", "report_interval"])
