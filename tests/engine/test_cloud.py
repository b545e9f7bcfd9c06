"""What an API operation waits for, and what it lets pass."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from keystoneauth1 import exceptions

from labctl.engine.cloud import Cloud
from labctl.errors import DeadlineError
from labctl.operations.networks import PortsBound
from labctl.operations.openstack import ArchivePolicy, ComputeServiceGone, DhcpPlugged, MeasuresArrive
from labctl.records.lab import Lab
from labctl.secret import Secret

NETWORKS = [{"id": "1", "name": "provider"}, {"id": "2", "name": "selfservice"}, {"id": "3", "name": "somebody's"}]


LAB = SimpleNamespace(
    name="lab",
    spec=SimpleNamespace(region="RegionOne"),
    driver=SimpleNamespace(patience=1.0),
    context=SimpleNamespace(auth_url="http://127.0.0.1:5000"),
)


class Neutron(Cloud):
    """Networks, their DHCP servers' ports after some questions, and subnets that ask for DHCP."""

    def __init__(self, active_after: int, asking: str) -> None:
        super().__init__(cast(Lab, LAB), {"ADMIN_PASS": Secret("x")}, None)
        self.left, self._asking = active_after, asking

    def get(self, service: str, path: str) -> dict[str, Any]:
        assert service == "network"
        if path.startswith("/v2.0/subnets"):
            assert path.endswith("?enable_dhcp=true")
            return {"subnets": [{"network_id": n} for n in self._asking]}
        if path.startswith("/v2.0/ports"):
            self.left -= 1
            state = "ACTIVE" if self.left < 0 else "DOWN"
            return {"ports": [{"network_id": "1", "status": "ACTIVE"}, {"network_id": "2", "status": state}]}
        return {"networks": NETWORKS}


BOTH = DhcpPlugged(("provider", "selfservice"), seconds=5)


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


def test_dhcp_of_networks_that_up_made_is_waited_for() -> None:
    neutron = Neutron(3, "123")
    assert neutron.run(BOTH) is False
    assert neutron.left == -1


def test_dhcp_that_nobody_serves_is_named() -> None:
    with pytest.raises(DeadlineError, match="no DHCP port is ACTIVE in selfservice"):
        Neutron(1000, "123").run(BOTH)


def test_network_whose_dhcp_was_switched_off_is_not_waited_for() -> None:
    neutron = Neutron(1000, "13")
    neutron.run(BOTH)
    assert neutron.left == 999


class Ports(Cloud):
    """Ports by their number, each with its host, type of binding and owner; an update binds one at a time."""

    def __init__(self, bindable: int, **ports: tuple[str, str, str]) -> None:
        super().__init__(cast(Lab, LAB), {"ADMIN_PASS": Secret("x")}, None)
        self.ports, self.bindable, self.asked = dict(ports), bindable, list[str]()

    def _request(self, service: str, method: str, path: str, **options: Any) -> Any:
        number, owner = path.rpartition("/")[2], path.partition("device_owner=")[2]
        if method == "GET":
            fields = ("binding:host_id", "binding:vif_type", "device_owner")
            rows = [{"id": key, **dict(zip(fields, port, strict=True))} for key, port in self.ports.items()]
            return {"ports": [row for row in rows if owner in ("", row["device_owner"])]}
        self.asked.append(f"{method} {number}")
        if method == "DELETE":
            del self.ports[number]
        elif self.bindable:
            self.bindable -= 1
            host, _, owner = self.ports[number]
            assert options["json"] == {"port": {"binding:host_id": host}}
            self.ports[number] = (host, "ovs", owner)
        return {}


def test_ports_with_a_host_are_bound_there_and_those_of_no_use_go() -> None:
    neutron = Ports(
        2,
        guest=("compute", "unbound", "compute:nova"),
        failed=("compute", "binding_failed", "compute:nova"),
        fine=("compute", "ovs", "compute:nova"),
        router=("", "unbound", "network:router_interface"),
        dhcp=("controller", "unbound", "network:dhcp"),
    )
    neutron.run(PortsBound(("network:dhcp",), seconds=5))
    assert neutron.asked == ["DELETE dhcp", "PUT guest", "PUT failed"]


def test_a_port_that_nobody_binds_is_named() -> None:
    with pytest.raises(DeadlineError, match="not bound: guest"):
        Ports(0, guest=("compute", "unbound", "compute:nova")).run(PortsBound(seconds=5))


class Nova(Cloud):
    """Two compute services of one hypervisor name: nova deletes the second only once it has a resource provider."""

    def __init__(self, *providers: str) -> None:
        super().__init__(cast(Lab, LAB), {"ADMIN_PASS": Secret("x")}, None)
        self.asked, self.providers = list[str](), set(providers)

    def _request(self, service: str, method: str, path: str, **options: Any) -> Any:
        self.asked.append(f"{method} {path}")
        if method == "GET" and path.startswith("/os-services"):
            return {"services": [{"id": 1, "host": "compute"}, {"id": 2, "host": "renamed"}]}
        if method == "GET":
            assert (path, options["microversion"]) == ("/os-hypervisors/detail", "2.53")
            names = (("u-1", "compute"), ("u-2", "renamed"))
            return {"hypervisors": [{"id": uuid, "service": {"host": host}} for uuid, host in names]}
        if method == "POST":
            assert (service, path) == ("placement", "/resource_providers")
            if options["json"]["uuid"] in self.providers:
                raise exceptions.Conflict
            self.providers.add(options["json"]["uuid"])
        elif "u-2" not in self.providers:
            raise exceptions.InternalServerError
        return {}


def test_a_compute_service_without_a_resource_provider_is_deleted() -> None:
    nova = Nova()
    assert nova.run(ComputeServiceGone("renamed"))
    assert nova.asked[-4:] == [
        "DELETE /os-services/2",
        "GET /os-hypervisors/detail",
        "POST /resource_providers",
        "DELETE /os-services/2",
    ]


def test_a_compute_service_with_its_resource_provider_is_deleted_at_once() -> None:
    nova = Nova("u-2")
    assert nova.run(ComputeServiceGone("renamed"))
    assert nova.asked[1:] == ["DELETE /os-services/2"]
    assert not nova.run(ComputeServiceGone("unknown"))


class Gnocchi(Cloud):
    """A metric API whose image has its first measure after some questions."""

    def __init__(self, measured_after: int = 0, *policies: str) -> None:
        super().__init__(cast(Lab, LAB), {"ADMIN_PASS": Secret("x")}, None)
        self.left, self.policies, self.made = measured_after, policies, list[Any]()

    def get(self, service: str, path: str) -> dict[str, Any]:
        assert (service, path) == ("image", "/v2/images?name=cirros")
        return {"images": [{"id": "1"}]}

    def rows(self, service: str, path: str) -> list[Any]:
        assert service == "metric"
        if path == "/v1/archive_policy":
            return [{"name": name} for name in self.policies]
        assert path == "/v1/resource/generic/1/metric/image.size/measures?granularity=30"
        self.left -= 1
        if self.left > 1:
            raise exceptions.NotFound  # no such metric yet
        return [["2026-11-30T00:00:00+00:00", 30.0, 4096.0]] if self.left < 0 else []

    def post(self, service: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (service, path) == ("metric", "/v1/archive_policy")
        self.made.append(body)
        return body


def test_the_first_measure_is_waited_for() -> None:
    gnocchi = Gnocchi(4)
    assert gnocchi.run(MeasuresArrive("cirros", "image.size", 30, seconds=20)) is False
    assert gnocchi.left == -1
    with pytest.raises(DeadlineError, match="no measure of the image cirros yet"):
        Gnocchi(1000).run(MeasuresArrive("cirros", "image.size", 30, seconds=5))


def test_an_archive_policy_is_made_once() -> None:
    wanted = ArchivePolicy("lab", ("mean", "rate:mean"), 30, 3600)
    gnocchi = Gnocchi(0, "low")
    assert gnocchi.run(wanted) is True
    (body,) = gnocchi.made
    assert body["aggregation_methods"] == ["mean", "rate:mean"]
    assert body["definition"] == [{"granularity": 30, "timespan": 3600}]
    assert Gnocchi(0, "low", "lab").run(wanted) is False
