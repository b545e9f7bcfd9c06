"""Clean-up goes on past errors, takes what is missing for removed, and says what is left."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from openstack.exceptions import NotFoundException

from labctl.testing import cleanup


def thing(name: str, status: str = "ACTIVE") -> SimpleNamespace:
    return SimpleNamespace(name=name, id=f"id-{name}", status=status)


def test_every_resource_is_tried_and_every_failure_is_told():
    removed: list[str] = []

    def delete(resource: SimpleNamespace) -> None:
        if resource.name == "stuck":
            raise RuntimeError("in use")
        removed.append(resource.name)

    sweep = cleanup.Sweep()
    sweep.remove("routers", lambda: [thing("a"), thing("stuck"), thing("b")], delete)
    assert removed == ["a", "b"]
    (problem,) = sweep.problems
    assert "routers stuck id-stuck" in problem
    assert "in use" in problem


def test_what_is_gone_already_is_no_problem():
    def delete(_: SimpleNamespace) -> None:
        raise NotFoundException("gone")

    sweep = cleanup.Sweep()
    sweep.remove("ports", lambda: [thing("a")], delete)
    assert sweep.problems == []


def test_a_list_that_fails_is_a_problem_and_not_the_end():
    def listing() -> list[SimpleNamespace]:
        raise ConnectionError("refused")

    sweep = cleanup.Sweep()
    sweep.remove("volumes", listing, lambda _: None)
    assert sweep.problems == ["list of volumes: ConnectionError: refused"]


def test_deletion_that_takes_time_is_waited_for():
    left = [[thing("a")], [thing("a", "deleting")], []]
    sweep = cleanup.Sweep()
    sweep.remove("servers", lambda: left.pop(0), lambda _: None, gone_within=30)
    assert left == []
    assert sweep.problems == []


def test_deletion_that_failed_is_not_waited_for():
    sweep = cleanup.Sweep()
    sweep.remove("volumes", lambda: [thing("a", "error_deleting")], lambda _: None, gone_within=600)
    (problem,) = sweep.problems
    assert "error_deleting" in problem


def test_what_belongs_to_others_is_never_removed_even_when_the_filter_is_ignored():
    removed: list[str] = []
    everybody = [
        SimpleNamespace(id="mine", name="", project_id="p1", device_owner=None, status="ACTIVE"),
        SimpleNamespace(id="theirs", name="", project_id="p2", device_owner=None, status="ACTIVE"),
        SimpleNamespace(id="nobody's", name="", project_id="", device_owner="", status="ACTIVE"),
    ]
    kinds = ("ips", "routers", "ports", "subnets", "networks")
    network = SimpleNamespace(**{kind: lambda **_: iter(everybody) for kind in kinds})
    for kind in ("ip", "router", "port", "subnet", "network"):
        setattr(network, f"delete_{kind}", lambda r: removed.append(getattr(r, "id", r)))
    network.ports = lambda project_id=None, device_id=None: iter(everybody) if project_id else iter([])
    sweep = cleanup.Sweep()
    cleanup._networking(sweep, SimpleNamespace(network=network), "p1")
    assert removed == ["mine"] * 5
    assert sweep.problems == []


def user(*changed: str, **proxies: Any) -> SimpleNamespace:
    """A connection that has changed something in these services."""
    return SimpleNamespace(session=SimpleNamespace(changed=set(changed)), **proxies)


class Kept:
    """A project's network that later tests use, in a neutron that has one more of everything."""

    net = SimpleNamespace(
        network=SimpleNamespace(id="kept-net"),
        subnet=SimpleNamespace(id="kept-subnet"),
        router=SimpleNamespace(id="kept-router"),
        external="outside",
    )

    def __init__(self, router: Any) -> None:
        self.removed: list[str] = []

        def of_project(*names: str) -> list[SimpleNamespace]:
            return [SimpleNamespace(id=n, name=n, project_id="p1", device_owner="", status="ACTIVE") for n in names]

        has = {
            "ips": of_project("address"),
            "routers": of_project("kept-router", "router"),
            "ports": of_project("port"),
            "subnets": of_project("kept-subnet", "subnet"),
            "networks": of_project("kept-net", "net"),
            "security_groups": of_project("default", "group"),
        }
        network = SimpleNamespace(**{kind: lambda found=found, **_: iter(found) for kind, found in has.items()})
        for kind in ("ip", "router", "port", "subnet", "network", "security_group"):
            setattr(network, f"delete_{kind}", lambda r: self.removed.append(r.id))
        network.ports = lambda project_id=None, device_id=None: iter(has["ports"]) if project_id else iter([])
        network.find_router = {"kept-router": router}.get
        self.network = network

    def empty(self) -> None:
        project = SimpleNamespace(id="p1", name="p", connection=user("network"))
        cleanup.empty(user(network=self.network), project, self.net)


@pytest.fixture
def networking(monkeypatch):
    monkeypatch.setattr(cleanup.cloud, "catalog", lambda _: [{"type": "network"}])


def test_kept_network_stays_when_the_project_is_emptied(networking):
    kept = Kept(SimpleNamespace(external_gateway_info={"network_id": "outside"}))
    kept.empty()
    assert kept.removed == ["address", "router", "port", "subnet", "net", "group"]


@pytest.mark.parametrize("router", [SimpleNamespace(external_gateway_info=None), None], ids=["no-gateway", "gone"])
def test_test_that_changes_the_kept_network_is_told_of_it(networking, router):
    kept = Kept(router)
    with pytest.raises(cleanup.LeftBehindError, match="kept-router has the gateway None, and had outside"):
        kept.empty()
    assert kept.removed[-1] == "group"  # it goes on


def test_servers_are_listed_without_details_which_nova_asks_neutron_for(monkeypatch):
    asked: list[bool] = []
    compute = SimpleNamespace(
        servers=lambda details=True: asked.append(details) or [], delete_server=None, keypairs=lambda: []
    )
    monkeypatch.setattr(cleanup.cloud, "catalog", lambda _: [{"type": "compute"}])
    cleanup.empty(user(), SimpleNamespace(id="p1", name="p", connection=user("compute", compute=compute)))
    assert asked == [False]


class Proxies:
    """All services of a catalog: remembers what was listed; every list is empty."""

    def __init__(self, *changed: str) -> None:
        self.session = SimpleNamespace(changed=set(changed))
        self.listed: list[str] = []

    def __getattr__(self, service: str) -> Any:
        return Listing(self.listed)


class Listing:
    def __init__(self, listed: list[str]) -> None:
        self._listed = listed

    def __getattr__(self, kind: str) -> Any:
        def found(**_: Any) -> list[Any]:
            self._listed.append(kind)
            return []

        return None if kind.startswith("delete_") else found


NETWORKING = {"ips", "routers", "ports", "subnets", "networks", "security_groups"}
EVERYTHING = NETWORKING | {"stacks", "servers", "keypairs", "snapshots", "volumes", "images", "containers"}


@pytest.mark.parametrize(
    ("by_user", "by_admin", "listed"),
    [
        ((), (), set()),
        (("identity",), ("placement",), set()),
        (("object-store",), (), {"containers"}),
        (("image",), ("identity",), {"images"}),
        (("network",), (), NETWORKING),
        (("volumev3",), (), {"snapshots", "volumes", "images"}),
        (("block-storage",), (), {"snapshots", "volumes", "images"}),
        (("object-store",), ("network",), NETWORKING | {"containers"}),
        (("compute",), (), EVERYTHING - {"stacks", "containers"}),
        (("orchestration",), (), EVERYTHING),
        (("",), (), EVERYTHING),
        (("dns",), (), EVERYTHING),
    ],
)
def test_project_is_emptied_where_something_was_changed(
    by_user: tuple[str, ...], by_admin: tuple[str, ...], listed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    types = ("compute", "network", "volumev3", "image", "object-store", "orchestration", "identity")
    monkeypatch.setattr(cleanup.cloud, "catalog", lambda _: [{"type": each} for each in types])
    admin, ordinary = Proxies(*by_admin), Proxies(*by_user)
    cleanup.empty(admin, SimpleNamespace(id="p1", name="p", connection=ordinary))
    assert {*admin.listed, *ordinary.listed} == listed
    # what is emptied is looked at once
    again = len(admin.listed) + len(ordinary.listed)
    cleanup.empty(admin, SimpleNamespace(id="p1", name="p", connection=ordinary))
    assert len(admin.listed) + len(ordinary.listed) == again


def test_project_that_goes_is_searched_in_every_service(monkeypatch: pytest.MonkeyPatch) -> None:
    types = ("compute", "network", "block-store", "image", "object-store", "orchestration")
    monkeypatch.setattr(cleanup.cloud, "catalog", lambda _: [{"type": each} for each in types])
    monkeypatch.setattr(
        cleanup.cloud, "identity", lambda _: SimpleNamespace(delete_user=lambda _: 0, delete_project=lambda _: 0)
    )
    admin, ordinary = Proxies(), Proxies()
    cleanup.destroy(admin, SimpleNamespace(id="p1", name="p", user="u", user_id="u1", connection=ordinary))
    assert {*admin.listed, *ordinary.listed} == EVERYTHING
