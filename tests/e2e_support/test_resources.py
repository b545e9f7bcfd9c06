"""Resources of tests: what a server is asked for, and what is looked up once for all tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from labctl.e2e_support import resources
from labctl.errors import BrokenLabError


class Cloud:
    """A lab with one image, one flavor and one network, which notes what it is asked for."""

    def __init__(self, lab: str, patience: float = 1.0) -> None:
        self.asked: list[str] = []
        self.servers: list[dict[str, Any]] = []
        self.lab = SimpleNamespace(
            lab=lab, patience=patience, image="cirros", flavors=("m1.nano",), external_network="provider"
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
        with pytest.raises(BrokenLabError, match="lab lab shows no flavor 'absent' to its projects"):
            resources.flavor_id(owner, "absent")
    assert owner.asked == ["absent", "absent"]
