"""Rules about nodes, their disks, and values that are written to configuration files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labctl.components import COMPONENTS, Component
from labctl.drivers import DRIVERS
from labctl.releases import RELEASES
from labctl.topology import proxy
from labctl.topology.defaults import physical_of
from labctl.topology.model import WORD, Topology, VolumeBackend
from labctl.topology.problems import Positions, Problem, shorten, unknown
from labctl.topology.stages import MACHINES, STAGES
from labctl.topology.units import LEAST_MEMORY, show_size

MIB = 2**20
GIB = 2**30
#: The disk that holds cinder's volumes.
CINDER_DISK = "cinder"
_MIN_DISK = GIB
#: What an operating system and the packages of one service take.
_MIN_SYSTEM = 2 * GIB
#: Maximum length of a virtio disk's serial number (VIRTIO_BLK_ID_BYTES).
_SERIAL = 20
_WORD = re.compile(WORD)
_WORD_IS = "letters, digits, '_', '.' and '-', the first a letter or digit"
#: Longest region identifier in keystone's tables.
_MAX_REGION = 255
#: Longest name of a physical network in neutron's tables.
_MAX_PHYSICAL = 64

#: Stages after which a snapshot can be taken: those that do something on the nodes.
SNAPSHOT_STAGES = tuple(stage for stage in STAGES if stage != MACHINES)


def components_fit_into_memory(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A node has at least the memory that its components hold."""
    for name, node in topology.nodes.items():
        least = sum(COMPONENTS[component].memory for component in node.runs) * MIB
        if node.memory < max(least, LEAST_MEMORY * MIB):
            ample = show_size(-(-least * 3 // 2 // (512 * MIB)) * 512 * MIB)
            yield at.problem(
                ("nodes", name, "memory"),
                f"{show_size(node.memory)} cannot hold what runs on {name}: its {len(node.runs)} components take "
                f"{show_size(least)} at the least; write {ample}",
            )


def systems_fit_their_disks(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A node's system disk holds an operating system and packages."""
    for name, node in topology.nodes.items():
        if node.disk < _MIN_SYSTEM:
            yield at.problem(
                ("nodes", name, "disk"),
                f"{show_size(node.disk)} cannot hold a system and its packages; at least {show_size(_MIN_SYSTEM)}",
            )


def disk_names_fit_a_serial_number(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A disk is identified by its serial number, which virtio truncates to 20 characters: two names could clash."""
    for name, node in topology.nodes.items():
        for disk in node.disks:
            if len(disk) > _SERIAL:
                yield at.problem(
                    ("nodes", name, "disks", disk),
                    f"{disk!r} is too long for a disk's serial number: at most {_SERIAL} characters",
                    key=True,
                )


def volume_backend_exists_on_the_drivers(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A volume group needs device mapper, which containers do not have."""
    known = [DRIVERS[name] for name in topology.drivers if name in DRIVERS]
    if topology.options.volume_backend is VolumeBackend.LVM and known and not any(d.own_kernel for d in known):
        yield at.problem(
            ("options", "volume_backend"),
            f"{' and '.join(topology.drivers)} nodes have no device mapper for a volume group; use nfs or auto",
        )


def cinder_has_a_disk(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A node with cinder-volume has a disk named ``cinder`` of at least 1 GiB."""
    for name, node in topology.nodes.items():
        if Component.CINDER_VOLUME not in node.runs:
            continue
        disk = node.disks.get(CINDER_DISK)
        if disk is None:
            yield at.problem(
                ("nodes", name, "disks"),
                f"cinder-volume needs its own disk for volumes; add {CINDER_DISK}: 8 GiB to disks",
            )
        elif disk.size < _MIN_DISK:
            yield at.problem(
                ("nodes", name, "disks", CINDER_DISK),
                f"{show_size(disk.size)} cannot hold a volume; the smallest is 1 GiB",
            )


def swift_has_disks(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A node with swift-storage has disks besides cinder's, each of at least 1 GiB."""
    for name, node in topology.nodes.items():
        if Component.SWIFT_STORAGE not in node.runs:
            continue
        disks = {disk: spec for disk, spec in node.disks.items() if disk != CINDER_DISK}
        if not disks:
            yield at.problem(
                ("nodes", name, "disks"),
                "swift-storage needs its own disks for objects; add one or more, like swift1: 2 GiB",
            )
        for disk, spec in disks.items():
            if spec.size < _MIN_DISK:
                yield at.problem(
                    ("nodes", name, "disks", disk),
                    f"{show_size(spec.size)} is too small for swift's file system; at least 1 GiB",
                )


def flavors_can_be_made(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Nova counts memory in MiB, and a guest's disk must fit on a compute node's."""
    disks = {name: node.disk for name, node in topology.nodes.items() if Component.NOVA_COMPUTE in node.runs}
    roomy = max(disks, key=lambda name: disks[name], default=None)
    for name, flavor in topology.fixtures.flavors.items():
        path = ("fixtures", "flavors", name)
        if flavor.ram % MIB:
            yield at.problem((*path, "ram"), f"{flavor.ram} bytes is not a whole number of MiB, nova's unit")
        if roomy is not None and flavor.disk * GIB > disks[roomy]:
            if path in at:
                yield at.problem(
                    (*path, "disk"),
                    f"{flavor.disk} GiB does not fit on any compute node; the largest has {show_size(disks[roomy])}",
                )
            else:
                yield at.problem(
                    ("nodes", roomy, "disk"),
                    f"{show_size(disks[roomy])} cannot hold a guest of flavor {name}, whose disk is {flavor.disk} GiB",
                )


def region_is_a_word(topology: Topology, at: Positions) -> Iterator[Problem]:
    """The region's name is used in the catalog, in commands and in every configuration file."""
    region = topology.options.region
    if not _WORD.fullmatch(region) or len(region) > _MAX_REGION:
        yield at.problem(
            ("options", "region"),
            f"{shorten(region)!r} is not a region; use a word like RegionOne: {_WORD_IS}",
        )


def physical_networks_are_words(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Neutron reads a physical network's name from lists of NAME:INTERFACE, and ``*`` as every name."""
    for name, network in topology.networks.items():
        physical = physical_of(network)
        if not _WORD.fullmatch(physical) or len(physical) > _MAX_PHYSICAL:
            yield at.problem(
                ("networks", name, "physical"),
                f"{shorten(physical)!r} is not a physical network's name; use a word like physnet1, "
                f"of at most {_MAX_PHYSICAL} characters: {_WORD_IS}",
            )


def snapshots_are_taken_after_stages(topology: Topology, at: Positions) -> Iterator[Problem]:
    """``snapshots`` names stages, each once."""
    seen: set[str] = set()
    for i, stage in enumerate(topology.snapshots):
        if stage not in SNAPSHOT_STAGES:
            yield at.problem(("snapshots", i), unknown("stage", stage, SNAPSHOT_STAGES))
        elif stage in seen:
            yield at.problem(("snapshots", i), f"{stage} is named twice")
        seen.add(stage)


def proxy_is_a_url(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Package managers, curl and pip all read the URL of the proxy."""
    if topology.options.proxy is not None and not proxy.valid(topology.options.proxy):
        # it may hold a password
        yield at.problem(("options", "proxy"), f"is not the URL of a proxy; {proxy.LIKE}")


def sources_are_of_projects(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A source is a project's of the release."""
    versions = RELEASES[topology.release].versions if topology.release in RELEASES else {}
    known = sorted({project for projects in versions.values() for project in projects})
    for project in topology.sources:
        if known and project not in known:
            yield at.problem(("sources", project), unknown("project", project, known), key=True)


RULES = (
    sources_are_of_projects,
    snapshots_are_taken_after_stages,
    components_fit_into_memory,
    systems_fit_their_disks,
    disk_names_fit_a_serial_number,
    volume_backend_exists_on_the_drivers,
    cinder_has_a_disk,
    swift_has_disks,
    flavors_can_be_made,
    region_is_a_word,
    proxy_is_a_url,
    physical_networks_are_words,
)
