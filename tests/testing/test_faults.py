"""What tells that a lab has recovered: units that ran run again, and no API reports anything as not alive."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.drivers import get
from labctl.errors import BrokenLabError, LabError
from labctl.host import namespace
from labctl.records import cloud
from labctl.records.lab import Lab
from labctl.testing import faults


class Row(SimpleNamespace):
    """One service or agent of an API."""


def admin(**lists: Any) -> Any:
    def api(rows: Any) -> Any:
        def ask() -> Any:
            if isinstance(rows, Exception):
                raise rows
            return rows

        return ask

    return SimpleNamespace(
        compute=SimpleNamespace(services=api(lists.get("compute", []))),
        network=SimpleNamespace(agents=api(lists.get("network", []))),
        block_storage=SimpleNamespace(services=api(lists.get("volume", []))),
    )


def access(name: str = "lab", nodes: tuple[str, ...] = (), components: tuple[str, ...] = ()) -> Any:
    up = "labctl up topology"
    return SimpleNamespace(lab=name, nodes=dict.fromkeys(nodes, ""), components=frozenset(components), up=up)


@pytest.fixture(autouse=True)
def keystone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "check", lambda lab: None)


ALL = ("nova-controller", "neutron-server", "cinder-controller")


def test_what_the_apis_report_as_not_alive_is_named() -> None:
    found = faults.ailing(
        admin(
            compute=[Row(binary="nova-compute", host="c1", state="down"), Row(binary="x", host="c", state="up")],
            network=[
                Row(binary="neutron-l3-agent", host="n1", is_alive=False),
                Row(binary="y", host="n", is_alive=True),
            ],
            volume=RuntimeError("503 Service Unavailable"),
        ),
        access(components=ALL),
    )
    assert found == [
        "nova-compute on c1",
        "neutron-l3-agent on n1",
        "block storage: RuntimeError: 503 Service Unavailable",
    ]


def test_apis_that_a_lab_does_not_have_are_not_asked() -> None:
    broken = RuntimeError("no such endpoint")
    assert faults.ailing(admin(compute=broken, network=broken, volume=broken), access()) == []


def test_a_lab_without_identity_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(lab: Any) -> None:
        raise BrokenLabError("lab one gives no token")

    monkeypatch.setattr(cloud, "check", refuse)
    assert faults.ailing(admin(), access(components=ALL)) == ["lab one gives no token"]


def test_a_fault_is_brought_upon_a_lab_from_outside_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABCTL_OUTSIDE", raising=False)
    with pytest.raises(BrokenLabError, match="cannot leave the lab's namespace"):
        namespace.outside("one", ["true"])
    namespace.leave_trail()
    words = namespace.outside("one", ["labctl", "list"])
    assert words[-2:] == ["labctl", "list"]
    for option, kind in zip(words[1:3], ("net", "mnt"), strict=True):
        name, _, path = option.partition("=")
        assert name == {"net": "--net", "mnt": "--mount"}[kind]
        assert Path(path).samefile(f"/proc/self/ns/{kind}")


@pytest.mark.system
def test_a_unit_that_does_not_come_back_is_named_with_its_log_lines(containers: Lab) -> None:
    nodes = tuple(containers.spec.nodes)

    def run(node: str, command: str) -> None:
        with get("nspawn").connect(containers, node, 20) as session:
            assert session.run(command, timeout=60).status == 0

    run("first", "systemctl start memcached && systemctl start chrony")
    made = faults.Faults(access(containers.name, nodes), admin())
    assert made.missing() == []
    assert made.wait_recovered(deadline=5) < 5

    run("first", "echo --no-such-option >>/etc/memcached.conf; systemctl restart memcached; true")
    run("first", "timeout 20 sh -c 'until systemctl --quiet is-failed memcached; do sleep 0.1; done'")
    with pytest.raises(faults.NotRecoveredError) as failed:
        made.wait_recovered(deadline=2)
    said = failed.value.message
    assert "memcached.service on first is not running" in said
    assert "first: memcached.service is not running\n    systemd: " in said
    assert "Failed" in said
    assert "second:" not in said

    run("first", "sed -i /no-such/d /etc/memcached.conf; systemctl reset-failed memcached; systemctl start memcached")
    assert made.wait_recovered(deadline=30) < 30


@pytest.mark.system
def test_a_node_that_does_not_answer_has_not_recovered(containers: Lab) -> None:
    made = faults.Faults(access(containers.name, tuple(containers.spec.nodes)), admin())
    get("nspawn").stop(containers, "second", 0)
    ((where, why),) = made.missing()
    assert where == "lab"
    assert "second of " in why
    with pytest.raises(LabError, match="second"):
        made.wait_recovered(deadline=1)
