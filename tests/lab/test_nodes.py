"""Nodes that join a running lab and leave it: what becomes of the lab, of its other nodes, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from support import SMALL, planned, specify, write

from labctl import drivers
from labctl.drivers.fake import Fake, FakeSession
from labctl.engine import cloud, converge
from labctl.errors import LabError
from labctl.host.ssh import Result
from labctl.lab import nodes
from labctl.lab import up as bring
from labctl.operations.node import File, flatten
from labctl.operations.openstack import ComputeServiceGone
from labctl.records.lab import Lab
from labctl.topology.join import joined
from labctl.topology.load import load

T = TypeVar("T")

GROWING = SMALL.replace("    runs: [etcd]\n", "    runs: [etcd]\n    join: later\n")

#: A lab with guests and volumes, one compute node at its start and one for later.
CLOUD = """
name: cloud
release: zed
bases: [debian12]
drivers: [nspawn]
networks:
  management: {cidr: 10.0.0.0/24}
nodes:
  controller:
    memory: 2 GiB
    networks: {management: 10.0.0.11}
    runs: [mariadb, rabbitmq, memcached, keystone, glance, placement, nova-controller, neutron-server,
           cinder-controller]
  compute1:
    memory: 1 GiB
    networks: {management: 10.0.0.31}
    disks: {cinder: 1 GiB}
    runs: [nova-compute, neutron-l2, cinder-volume]
  compute2:
    memory: 1 GiB
    networks: {management: 10.0.0.32}
    disks: {cinder: 1 GiB}
    runs: [nova-compute, neutron-l2, cinder-volume]
    join: later
"""


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", made)
    return made


def up(tmp_path: Path, text: str = GROWING) -> Lab:
    path = write(tmp_path, text)
    spec = specify(path)
    bring.up(spec, path, "verify")
    return Lab.load(spec.name)


def add(lab: str, name: str, **options: Any) -> converge.Summary:
    return nodes.add(lab, name, **{"addresses": {}, **options})


def hosts(driver: Fake, lab: Lab, node: str) -> str:
    """The names that a node was last told."""
    spec = Lab.load(lab.name).spec
    assert driver.machine(lab, node).running
    files = planned(spec).files(node)
    return next(file.content for file in files if file.path == "/etc/hosts")


# --- joining ---------------------------------------------------------------------------------------


def test_up_leaves_a_later_node_alone(tmp_path: Path, driver: Fake) -> None:
    lab = up(tmp_path)
    assert {node for _, node in driver.boxes} == {"first"}
    assert [(r["node"], r["state"], r["joined"]) for r in nodes.rows("small")] == [
        ("first", "running", "start"),
        ("second", "not added", "later"),
    ]
    assert "second" not in hosts(driver, lab, "first")


def test_a_node_of_the_topology_joins_and_stays(tmp_path: Path, driver: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = up(tmp_path)
    monkeypatch.setattr(driver, "cpu_seconds", lambda lab: 21.3)
    summary = add("small", "second")
    assert summary.stages[0].cpu_seconds == 0  # what the others used before is not this stage's

    assert [s.name for s in summary.stages] == ["machines", "prepare", "packages", "sql", "infrastructure"]
    assert driver.machine(lab, "second").running
    assert "10.0.0.12 second" in hosts(driver, lab, "first")
    assert (lab.directory / "keys" / "second").exists()
    assert "second,10.0.0.12" in (lab.directory / "keys" / "known_hosts").read_text()

    again = bring.up(specify(tmp_path / "lab.yaml"), tmp_path / "lab.yaml", "verify")
    assert again.skipped == ["machines", "prepare", "packages", "sql", "infrastructure"]
    assert list(Lab.load("small").spec.nodes) == ["first", "second"]


def test_nothing_but_the_names_changes_on_the_other_nodes(tmp_path: Path, driver: Fake) -> None:
    lab = up(tmp_path)
    before = set(driver.boxes[lab.id, "first"].done)
    driver.stages.clear()
    summary = add("small", "second")
    assert ("infrastructure", "first") in driver.stages  # it was looked at
    assert len(driver.boxes[lab.id, "first"].done - before) == 1
    assert summary.stages[0].changed == 1


def test_of_a_running_clouds_configuration_only_the_names_change(tmp_path: Path) -> None:
    spec = specify(write(tmp_path, CLOUD))
    after = joined(spec, "compute2")
    old, new = planned(spec), planned(after)
    changed = set()
    for node in spec.nodes:
        for before_stage, after_stage in zip(old.stages, new.stages, strict=True):
            for was, now in ((before_stage.nodes, after_stage.nodes), (before_stage.after, after_stage.after)):
                operations = flatten(tuple(was.get(node, ())))
                for one, other in zip(operations, flatten(tuple(now.get(node, ()))), strict=True):
                    if (one.shell(), getattr(one, "content", "")) != (other.shell(), getattr(other, "content", "")):
                        changed.add((node, other.title))
    written = {(n, title) for n, title in changed if title.startswith(("write", "start", "set"))}
    assert written == {("controller", "write /etc/hosts"), ("compute1", "write /etc/hosts")}
    assert ("controller", "compute nodes mapped into cell1") in changed


def test_a_copy_joins_with_the_next_free_address(tmp_path: Path, driver: Fake) -> None:
    text = SMALL.replace("runs: [etcd]", "runs: []")
    lab = up(tmp_path, text)
    add("small", "third", like="second")
    add("small", "fourth", like="third", addresses={"management": IPv4Address("10.0.0.99")})
    assert [(r["node"], r["address"], r["joined"]) for r in nodes.rows("small")][2:] == [
        ("third", "10.0.0.13", "like second"),
        ("fourth", "10.0.0.99", "like third"),
    ]
    assert hosts(driver, lab, "second").endswith("10.0.0.13 third\n10.0.0.99 fourth\n")
    bring.up(specify(tmp_path / "lab.yaml"), tmp_path / "lab.yaml", "verify")
    assert list(Lab.load("small").spec.nodes) == ["first", "second", "third", "fourth"]


def test_joining_goes_on_where_it_failed(tmp_path: Path, driver: Fake) -> None:
    lab = up(tmp_path)
    driver.failures["start etcd"] = "address in use"
    with pytest.raises(LabError, match="address in use"):
        add("small", "second")
    assert [r["state"] for r in nodes.rows("small")] == ["running", "running"]
    driver.failures.clear()
    summary = add("small", "second")
    assert [s.name for s in summary.stages] == ["infrastructure"]
    with pytest.raises(LabError, match="small already has the node 'second'") as raised:
        add("small", "second")
    assert raised.value.hint == "labctl node list small"
    assert lab.id == Lab.load("small").id


def test_a_node_joins_only_a_lab_that_is_up(tmp_path: Path, driver: Fake) -> None:
    path = write(tmp_path, GROWING)
    bring.up(specify(path), path, "prepare")
    with pytest.raises(LabError, match="small is not up: stage infrastructure has not finished") as raised:
        add("small", "second")
    assert raised.value.hint == f"labctl up {path}"
    bring.up(specify(path), path, "verify")
    driver.stop(Lab.load("small"), "first", 1)
    with pytest.raises(LabError, match="small is not up: first is not running"):
        add("small", "second")
    assert list(Lab.load("small").spec.nodes) == ["first"]


def test_a_node_that_does_not_fit_into_the_memory_does_not_join(tmp_path: Path, driver: Fake) -> None:
    head, second, tail = GROWING.partition("  second:\n")
    up(tmp_path, head + second + tail.replace("512 MiB", "900 TiB"))
    with pytest.raises(LabError, match=r"need 900 TiB of memory \(second 900 TiB\)"):
        add("small", "second")
    assert list(Lab.load("small").spec.nodes) == ["first"]


def test_an_unknown_lab_or_node_is_named(tmp_path: Path, driver: Fake) -> None:
    for call in (lambda: add("nope", "n"), lambda: nodes.remove("nope", "n"), lambda: nodes.rows("nope")):
        with pytest.raises(LabError, match="there is no lab named 'nope'"):
            call()
    up(tmp_path)
    with pytest.raises(LabError, match="has no node 'thrid' that joins later; it has: second"):
        add("small", "thrid")
    with pytest.raises(LabError, match="small has no node 'second'; it has first"):
        nodes.remove("small", "second")


# --- leaving ---------------------------------------------------------------------------------------


def test_a_node_leaves_and_the_others_forget_its_name(tmp_path: Path, driver: Fake) -> None:
    lab = up(tmp_path)
    add("small", "second")
    nodes.remove("small", "second")
    assert not driver.machine(lab, "second").exists
    assert "second" not in hosts(driver, lab, "first")
    assert (lab.directory / "keys" / "second").exists()  # for a snapshot that has the machine
    assert "second" not in (lab.directory / "keys" / "known_hosts").read_text()
    assert [(r["node"], r["state"]) for r in nodes.rows("small")] == [("first", "running"), ("second", "not added")]
    assert add("small", "second").stages[0].changed == 1


def test_a_node_that_died_can_leave(tmp_path: Path, driver: Fake) -> None:
    lab = up(tmp_path)
    add("small", "second")
    driver.stop(lab, "second", 0)
    nodes.remove("small", "second")
    assert list(Lab.load("small").spec.nodes) == ["first"]


def test_a_machine_that_cannot_be_removed_stays_in_the_record(
    tmp_path: Path, driver: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(tmp_path)
    add("small", "second")
    monkeypatch.setattr(driver, "destroy", lambda lab, node: ["mount /x"])
    with pytest.raises(LabError, match="could not remove all of second: mount /x") as raised:
        nodes.remove("small", "second")
    assert raised.value.hint == "labctl node remove small second"
    assert "second" in Lab.load("small").spec.nodes


# --- services --------------------------------------------------------------------------------------


class Apis:
    """Stands for the APIs of a cloud: its services, agents, servers and volumes, and what was asked to change."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.servers: list[dict[str, str]] = []
        self.volumes: list[dict[str, str]] = []
        self.operations: list[str] = []

    def cloud(self, *_: Any) -> Apis:
        return self

    def enter(self, namespace: str, hosts_file: Path) -> Apis:
        return self

    def __enter__(self) -> Apis:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, function: Callable[[], T]) -> T:
        return function()

    def run(self, operation: Any) -> bool:
        self.operations.append(operation.title)
        if isinstance(operation, ComputeServiceGone):
            self.changes.append(f"compute service of {operation.host} deleted")
        return False

    def get(self, service: str, path: str) -> Any:
        rows = {
            ("compute", "/servers/detail?all_tenants=1&host=compute2"): {"servers": self.servers},
            ("volumev3", "/volumes/detail?all_tenants=1"): {"volumes": self.volumes},
            ("compute", "/os-services?binary=nova-compute"): {
                "services": [
                    {"id": 7, "host": "compute1", "status": "enabled"},
                    {"id": 8, "host": "compute2", "status": "enabled"},
                ]
            },
            ("volumev3", "/os-services?binary=cinder-volume"): {
                "services": [
                    {"host": "compute1@nfs", "status": "enabled"},
                    {"host": "compute2@nfs", "status": "enabled"},
                ]
            },
            ("network", "/v2.0/agents?host=compute2"): {"agents": [{"id": "a1"}]},
        }
        return rows[service, path]

    def put(self, service: str, path: str, body: Any) -> Any:
        self.changes.append(f"{service} PUT {path} {body['binary']} {body['host']}")

    def delete(self, service: str, path: str) -> None:
        self.changes.append(f"{service} DELETE {path}")


@pytest.fixture
def apis(monkeypatch: pytest.MonkeyPatch, driver: Fake) -> Apis:
    made = Apis()
    monkeypatch.setattr(cloud, "Cloud", made.cloud)
    monkeypatch.setattr(cloud.namespace, "Inside", made.enter)
    monkeypatch.setattr(bring.guest, "ensure", lambda *_: SimpleNamespace(origin="a test"))
    run = FakeSession.run

    def on_node(self: FakeSession, command: str, **options: Any) -> Result:
        if command.startswith(("su ", "rm ")):
            assert not driver.machine(Lab.load("cloud"), "compute2").exists
            made.changes.append(f"{self.where}: {command}")
            return Result(0, "", "")
        return run(self, command, **options)

    monkeypatch.setattr(FakeSession, "run", on_node)
    return made


def test_a_compute_node_leaves_nova_neutron_and_cinder(tmp_path: Path, driver: Fake, apis: Apis) -> None:
    up(tmp_path, CLOUD)
    add("cloud", "compute2")
    assert "hypervisors up: compute1, compute2" in apis.operations
    assert apis.changes == []
    apis.operations.clear()

    nodes.remove("cloud", "compute2")

    assert apis.changes == [
        "compute PUT /os-services/disable nova-compute compute2",
        "volumev3 PUT /os-services/disable cinder-volume compute2@nfs",
        "network DELETE /v2.0/agents/a1",
        "compute service of compute2 deleted",
        'controller: su -s /bin/sh -c "cinder-manage service remove cinder-volume compute2@nfs" cinder',
        "controller: rm -f /var/lib/labctl/stamps/nova-host-compute2",
    ]
    assert "hypervisors up: compute1" in apis.operations
    assert list(Lab.load("cloud").spec.nodes) == ["controller", "compute1"]


def test_a_node_with_servers_or_volumes_stays(tmp_path: Path, driver: Fake, apis: Apis) -> None:
    lab = up(tmp_path, CLOUD)
    add("cloud", "compute2")
    apis.servers = [{"name": "web", "id": "s1", "status": "SHUTOFF"}]
    apis.volumes = [
        {"name": "data", "id": "v1", "status": "in-use", "os-vol-host-attr:host": "compute2@nfs#nfs"},
        {"name": "other", "id": "v2", "status": "available", "os-vol-host-attr:host": "compute1@nfs#nfs"},
    ]
    with pytest.raises(LabError) as raised:
        nodes.remove("cloud", "compute2")
    assert raised.value.message == "compute2 of cloud still holds server web (s1, SHUTOFF), volume data (v1, in-use)"
    assert apis.changes == [
        "compute PUT /os-services/disable nova-compute compute2",
        "volumev3 PUT /os-services/disable cinder-volume compute2@nfs",
        "compute PUT /os-services/enable nova-compute compute2",
        "volumev3 PUT /os-services/enable cinder-volume compute2@nfs",
    ]
    assert driver.machine(lab, "compute2").running


def test_a_compute_node_that_died_leaves_without_being_asked(tmp_path: Path, driver: Fake, apis: Apis) -> None:
    lab = up(tmp_path, CLOUD)
    add("cloud", "compute2")
    driver.stop(lab, "compute2", 0)
    nodes.remove("cloud", "compute2")
    assert apis.changes[:2] == ["network DELETE /v2.0/agents/a1", "compute service of compute2 deleted"]


def test_removal_goes_on_where_it_failed(
    tmp_path: Path, driver: Fake, apis: Apis, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(tmp_path, CLOUD)
    add("cloud", "compute2")
    run = FakeSession.run

    def broken(self: FakeSession, command: str, **options: Any) -> Result:
        return Result(1, "", "no database") if command.startswith("su ") else run(self, command, **options)

    with monkeypatch.context() as patched:
        patched.setattr(FakeSession, "run", broken)
        with pytest.raises(LabError, match="exited with status 1:\nno database"):
            nodes.remove("cloud", "compute2")
    assert "compute2" in Lab.load("cloud").spec.nodes
    nodes.remove("cloud", "compute2")
    assert "compute2" not in Lab.load("cloud").spec.nodes


def test_the_files_of_a_later_node_are_those_of_one_from_the_start(tmp_path: Path) -> None:
    start = specify(write(tmp_path, CLOUD.replace("    join: later\n", "")))
    late = joined(specify(write(tmp_path, CLOUD)), "compute2")

    def files(spec: Any) -> dict[str, File]:
        return {file.path: file for file in planned(spec).files("compute2")}

    assert files(late) == files(start)
    assert load(tmp_path / "lab.yaml").nodes["compute2"].runs == late.nodes["compute2"].runs
