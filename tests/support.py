"""Specs and plans for tests: the project's own topologies, and small ones."""

from __future__ import annotations

from pathlib import Path

from labctl import bases
from labctl.lab.choose import choose, draft
from labctl.plan.planner import Plan, plan
from labctl.releases import RELEASES
from labctl.services.base import Context
from labctl.topology.join import joined
from labctl.topology.load import load
from labctl.topology.spec import LabSpec

ROOT = Path(__file__).parents[1]
TOPOLOGIES = sorted((ROOT / "topologies").glob("*.yaml"))

#: A lab that needs no API: database and cache on one node, time on both.
SMALL = """
name: small
release: zed
bases: [debian12]
drivers: [nspawn]
networks:
  management: {cidr: 10.0.0.0/24}
nodes:
  first:
    memory: 512 MiB
    networks: {management: 10.0.0.11}
    runs: [mariadb, memcached]
  second:
    memory: 512 MiB
    networks: {management: 10.0.0.12}
    runs: [etcd]
"""

#: The smallest lab with an API.
IDENTITY = """
name: identity
release: zed
bases: [debian12]
drivers: [nspawn]
networks:
  management: {cidr: 10.0.0.0/24}
nodes:
  data:
    memory: 512 MiB
    networks: {management: 10.0.0.11}
    runs: [mariadb, memcached]
  api:
    memory: 512 MiB
    networks: {management: 10.0.0.12}
    runs: [keystone]
"""


def write(directory: Path, text: str = SMALL, name: str = "lab.yaml") -> Path:
    """Write a topology file."""
    path = directory / name
    path.write_text(text)
    return path


def specify(path: Path, **choices: str) -> LabSpec:
    """The spec that ``labctl up`` would use for a topology file; with a base, also one that is not possible here."""
    return (draft if "base" in choices else choose)(load(path), **choices).spec


def whole(path: Path, base: str) -> LabSpec:
    """The lab of a topology file on a base after every node that joins later has joined."""
    spec = specify(path, base=base)
    for name in tuple(spec.later):
        spec = joined(spec, name)
    return spec


def variants() -> list[tuple[Path, str]]:
    """Every (topology, base) that labctl has a recipe for."""
    found = []
    for path in TOPOLOGIES:
        topology = load(path)
        sources = RELEASES[topology.release].bases
        found += [(path, base) for base in topology.bases if (base, sources.get(base)) in bases.BASES]
    return found


def planned(spec: LabSpec) -> Plan:
    """What ``up`` would do for a lab."""
    return plan(Context.of(spec))
