"""Services of emulated machines wait as long as the machines are slow; those of others keep their own limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from configparser import ConfigParser

import pytest
from support import ROOT, whole

from labctl.plan.planner import plan
from labctl.topology.spec import LabSpec

TOPOLOGY = ROOT / "topologies" / "zed-2node.yaml"
FILES = ("nova.conf", "neutron.conf", "cinder.conf", "heat.conf", "proxy-server.conf")


def settings(spec: LabSpec) -> Iterator[tuple[str, str, str, str]]:
    """(file, section, option, value) of what the nodes' services read."""
    for node in spec.nodes:
        for file in plan(spec).files(node):
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


@pytest.mark.parametrize(("patience", "own"), [(1.0, None), (12.0, 720)])
def test_the_message_bus_and_its_clients_agree_on_when_a_connection_is_dead(patience: float, own: int | None) -> None:
    """Bug: clients sent a sign of life every 150 s, and the server, with its own limit, closed each after 120 s."""
    spec = whole(TOPOLOGY, "debian12").model_copy(update={"patience": patience})
    (environment,) = (f.content for f in plan(spec).files("controller") if f.path.endswith("rabbitmq-env.conf"))
    found = re.search(r'^RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=".* -rabbit heartbeat (\d+)"$', environment, re.M)
    assert (int(found[1]) if found else None) == own
    clients = {seen[3] for seen in settings(spec) if seen[2] == "heartbeat_timeout_threshold"}
    assert clients == ({str(own)} if own else set())


def test_an_agent_is_not_called_dead_before_it_has_missed_several_reports() -> None:
    found = {seen[:3]: seen[3] for seen in settings(whole(TOPOLOGY, "debian12").model_copy(update={"patience": 3.0}))}
    down = int(found["neutron.conf", "DEFAULT", "agent_down_time"])
    assert down > 2 * int(found["neutron.conf", "agent", "report_interval"])
