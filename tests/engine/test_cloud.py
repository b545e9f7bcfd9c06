"""What an API operation waits for, and what it lets pass."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labctl.engine.cloud import Cloud
from labctl.errors import DeadlineError
from labctl.operations.openstack import DhcpPlugged
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
