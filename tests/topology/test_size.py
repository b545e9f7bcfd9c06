"""Large topologies: work grows with what is written, not with its square. Calls are counted, not seconds."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from pathlib import Path

import pytest
from support import specify, write

from labctl.plan.planner import plan
from labctl.services.base import Context
from labctl.topology import document
from labctl.topology.join import left
from labctl.topology.load import TopologyError, parse
from labctl.topology.problems import MAX_SHOWN

HEAD = """
name: big
release: zed
bases: [debian12]
networks:
  management: {cidr: 10.0.0.0/16}
  provider: {cidr: 203.0.113.0/24}
"""
CONTROLLER = """nodes:
  controller:
    memory: 16 GiB
    networks: {management: 10.0.0.11, provider: none}
    runs: [mariadb, rabbitmq, memcached, keystone, glance, placement, nova-controller, neutron-server, neutron-l2]
"""


def calls(work: Callable[[], object]) -> int:
    profile = cProfile.Profile()
    profile.runcall(work)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def linear(work: Callable[[int], object], counts: tuple[int, int, int]) -> None:
    """Twice as much more to do takes at most about twice as many more calls."""
    few, some, many = (calls(lambda count=count: work(count)) for count in counts)
    times = (counts[2] - counts[1]) / (counts[1] - counts[0])
    assert many - some <= 1.25 * times * (some - few)


def computes(count: int) -> str:
    node = (
        "  compute{0}: {{networks: {{management: 10.0.{1}.{2}, provider: none}}, runs: [nova-compute, neutron-l2]}}\n"
    )
    return "".join(node.format(i, 1 + i // 250, 1 + i % 250) for i in range(count))


def test_a_plan_grows_with_its_nodes(tmp_path: Path) -> None:
    specs = {count: specify(write(tmp_path, HEAD + CONTROLLER + computes(count))) for count in (5, 25, 65)}
    linear(lambda count: plan(Context.of(specs[count])), (5, 25, 65))


@pytest.mark.parametrize(
    "network", ["  n{0}: {{cidr: 10.1.0.0/24}}\n", "  n{0}: {{cidr: 10.1.{0}.0/24, role: overlay}}\n"]
)
def test_problems_of_networks_grow_with_them(network: str) -> None:
    def refused(count: int) -> None:
        with pytest.raises(TopologyError):
            parse(HEAD + "".join(network.format(i) for i in range(count)) + CONTROLLER, "x")

    linear(refused, (20, 60, 140))


def test_problems_of_nodes_grow_with_them() -> None:
    def refused(count: int) -> None:
        nodes = computes(count).replace("provider: none", "nowhere: none").replace("10.0.1.", "10.0.0.")
        networks = "".join(f"  n{i}: {{cidr: 10.1.{i}.0/24, role: overlay}}\n" for i in range(count))
        with pytest.raises(TopologyError):
            parse(HEAD + networks + CONTROLLER + nodes, "x")

    linear(refused, (60, 100, 180))


def test_problems_of_lists_grow_with_them() -> None:
    def refused(count: int) -> None:
        text = HEAD.replace("[debian12]", f"[{'debian12, ' * count}]") + f"drivers: [{'nspawn, ' * count}]\n"
        text += f"snapshots: [{'keystone, ' * count}]\n" + CONTROLLER.replace("[mariadb", "[" + "mariadb, " * count)
        with pytest.raises(TopologyError):
            parse(text, "x")

    linear(refused, (20, 60, 140))


def test_fifty_problems_are_listed_and_the_rest_is_counted() -> None:
    networks = "".join(f"  n{i}: {{cidr: 10.1.0.0/24}}\n" for i in range(100))
    with pytest.raises(TopologyError) as raised:
        parse(HEAD + networks + CONTROLLER, "lab.yaml")
    *listed, last = raised.value.message.splitlines()
    assert len(listed) == MAX_SHOWN
    assert len(raised.value.problems) == 199
    assert last == "lab.yaml: 149 more problems"


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = document._compose
    monkeypatch.setattr(document, "_compose", lambda text, name: read.append(name) or real(text, name))
    specify(write(tmp_path, HEAD + CONTROLLER))
    assert len(read) == 1


def test_a_spec_with_other_nodes_knows_what_they_run(tmp_path: Path) -> None:
    spec = specify(write(tmp_path, HEAD + CONTROLLER + computes(1).replace("runs", "join: later, runs")))
    nodes = {**spec.nodes, **spec.later}
    assert not spec.has("nova-compute")
    assert "compute0" not in spec.hosts_file
    grown = spec.model_copy(update={"nodes": nodes, "later": {}})
    assert grown.has("nova-compute")
    assert "compute0" in grown.hosts_file
    assert not left(grown, "compute0").has("nova-compute")
