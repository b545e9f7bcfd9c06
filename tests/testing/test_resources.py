"""Resources of tests: what a server is asked for, and what is looked up once for all tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from openstack.exceptions import NotFoundException

from labctl.errors import BrokenLabError
from labctl.testing import cleanup, resources, waits


class Cloud:
    """A lab with one image, one flavor and one network, which notes what it is asked for."""

    def __init__(self, lab: str, patience: float = 1.0) -> None:
        self.asked: list[str] = []
        self.servers: list[dict[str, Any]] = []
        self.lab = SimpleNamespace(
            lab=lab,
            up=f"labctl up zed-2node --name {lab}",
            patience=patience,
            image="cirros",
            flavors=("m1.nano",),
            external_network="provider",
        )
        self.connection = SimpleNamespace(
            image=SimpleNamespace(find_image=self._find),
            network=SimpleNamespace(find_network=self._find),
            compute=SimpleNamespace(find_flavor=self._find, create_server=lambda **attrs: self.servers.append(attrs)),
        )

    def _find(self, name: str) -> Any:
        self.asked.append(name)
        return None if name == "absent" else SimpleNamespace(id=f"{name} of {self.lab.lab}")


def project(lab: str, patience: float = 1.0) -> Any:
    return Cloud(lab, patience)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_ids", {})


def create(owner: Any, **options: Any) -> dict[str, Any]:
    resources.create_server(owner, "one", network="net", key_name="key", group="group", **options)
    (made,) = owner.servers
    return made


@pytest.mark.parametrize(("patience", "drive"), [(1.0, None), (12.0, True)])
def test_servers_of_emulated_nodes_learn_their_key_from_a_config_drive(patience: float, drive: bool | None) -> None:
    assert create(project("lab", patience)).get("has_config_drive") is drive


def test_server_boots_from_the_image_or_from_the_volume() -> None:
    made = create(project("lab"))
    assert (made["image_id"], made["flavor_id"]) == ("cirros of lab", "m1.nano of lab")
    assert "block_device_mapping" not in made
    made = create(project("lab"), boot_volume="root")
    assert "image_id" not in made
    assert made["block_device_mapping"][0]["uuid"] == "root"


def test_what_up_has_made_is_looked_up_once_for_each_lab() -> None:
    first, second, other = project("lab"), project("lab"), project("other")
    assert resources.external_network_id(first) == resources.external_network_id(second) == "provider of lab"
    assert (first.asked, second.asked) == (["provider"], [])
    assert resources.external_network_id(other) == "provider of other"


def test_what_is_not_there_is_named_and_looked_up_again() -> None:
    owner = project("lab")
    for _ in range(2):
        with pytest.raises(BrokenLabError, match="lab lab: flavor 'absent' is not visible to projects") as raised:
            resources.flavor_id(owner, "absent")
        assert raised.value.hint == "labctl up zed-2node --name lab"
    assert owner.asked == ["absent", "absent"]


class Clock:
    """Time that passes only in sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(params=[1.0, 12.0])
def patience(request: pytest.FixtureRequest) -> Iterator[float]:
    waits.be_patient(request.param)
    yield request.param
    waits.be_patient(1.0)


class Nova:
    """Servers that are done after some minutes; it notes when it is asked."""

    def __init__(self, clock: Clock, done_at: float, done: Any) -> None:
        self.asked: list[float] = []
        self.deleted: list[str] = []
        self._clock, self._done_at, self._done = clock, done_at, done
        self.compute = SimpleNamespace(get_server=self._get, delete_server=self.deleted.append)

    def _get(self, server_id: str) -> Any:
        self.asked.append(self._clock.now)
        if self._clock.now < self._done_at:
            return server("BUILD")
        if self._done is None:
            raise NotFoundException(server_id)
        return self._done


def server(status: str) -> Any:
    return SimpleNamespace(id="1", name="one", status=status, task_state=None, vm_state="", fault=None)


def test_slow_machines_are_asked_for_a_servers_state_less_often(clock: Clock, patience: float) -> None:
    nova: Any = Nova(clock, 60, server("ACTIVE"))
    assert resources.wait_server(nova, server("BUILD")).status == "ACTIVE"
    assert nova.asked == [at * patience for at in range(int(60 / patience) + 1)]


def test_slow_machines_are_asked_less_often_whether_a_server_is_gone(clock: Clock, patience: float) -> None:
    nova: Any = Nova(clock, 60, None)
    resources.delete_server(nova, server("ACTIVE"))
    assert nova.deleted == ["1"]
    assert nova.asked == [at * patience for at in range(int(60 / patience) + 1)]


def test_slow_machines_are_listed_less_often_in_the_clean_up(clock: Clock, patience: float) -> None:
    asked: list[float] = []

    def listed() -> list[Any]:
        asked.append(clock.now)
        return [server("ACTIVE")] if clock.now < 60 else []

    sweep = cleanup.Sweep()
    sweep.remove("servers", listed, lambda _: None, gone_within=180)
    assert sweep.problems == []
    assert asked == [0.0, *(at * patience for at in range(int(60 / patience) + 1))]
