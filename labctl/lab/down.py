"""Remove a lab without a trace: from its recorded state, or by its marks when that is gone too."""

from __future__ import annotations

import re

from labctl import drivers
from labctl.errors import LabError
from labctl.host import cgroup, loops, network, overlay, paths
from labctl.progress import step, warn
from labctl.records.directory import REMOVED, exists, half_removed
from labctl.records.lab import Lab, begin_removal, remove_directory
from labctl.topology.model import NAME


def remains(name: str) -> list[str]:
    """Everything on this machine that is marked with a lab of this home."""
    directory, other = paths.labs() / name, network.foreign(name)
    found = [f"namespace {n}" for n in network.namespaces(name)]
    found += [f"mount {m}" for m in overlay.below(directory)]
    found += [f"loop device {device}" for device in loops.attached(directory)]
    found += [item for driver in drivers.every() for item in driver.remains(name)]
    found += [f"process {pid}" for pid in cgroup.processes(name)]
    found += [f"control group {group}" for group in cgroup.groups(name)]
    etc = network.ETC / network.lab_namespace(name)
    found += [f"directory {path}" for path in (directory, etc) if path.exists() and not (path == etc and other)]
    return found


def down(name: str) -> bool:
    """Remove a lab; False when there was nothing to remove.

    :raises LabError: lists what could not be removed; running it again continues.
    """
    if not re.fullmatch(NAME, name):  # ".." or "" would mean every lab of this machine, and more
        raise LabError(f"{name!r} is not a lab name", "labctl list")
    if not remains(name):
        if other := network.foreign(name):
            raise LabError(f"{name} is a lab of {other}", f"LABCTL_HOME={other} labctl down {name}")
        return False
    left: list[str] = []
    with step("lab", f"remove {name}"):
        if exists(name):
            begin_removal(name)
        if half_removed(name):
            left += _by_record(name)
        left += _sweep(name)
    left = remains(name) if left else left
    if left:
        raise LabError(f"could not remove all of {name}: {', '.join(left)}", f"labctl down {name}")
    return True


def _by_record(name: str) -> list[str]:
    try:
        lab = Lab.load(name, REMOVED)
    except LabError as error:
        warn("lab", f"{error.message}; removing what is marked with the lab")
        return []
    left = [item for node in lab.spec.nodes for item in lab.driver.destroy(lab, node)]
    return left + lab.driver.destroy_network(lab)


def _sweep(name: str) -> list[str]:
    """Remove by mark what the recorded state does not list."""
    left = [item for driver in drivers.every() for item in driver.sweep(name)]
    left += [f"process {pid}" for pid in cgroup.kill(name)]
    left += network.delete(name)
    directory = paths.labs() / name
    left += [f"mount {mount}: {why}" for mount in overlay.below(directory) if (why := overlay.unmount(mount))]
    left += loops.detach_all(directory)
    if directory.exists() and not overlay.below(directory) and not remove_directory(directory):
        left.append(f"directory {directory}")
    return left
