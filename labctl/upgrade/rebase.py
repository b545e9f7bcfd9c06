"""Put a stopped lab on another golden image, with its data and what it has changed in files of the image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from labctl.errors import BrokenLabError
from labctl.host import files
from labctl.host.threads import on_each
from labctl.images import stack
from labctl.operations.node import Assign, File, Operation, Unit
from labctl.plan.planner import Plan
from labctl.records.lab import Lab
from labctl.upgrade import data
from labctl.upgrade.accounts import give, renumbered

#: Stages whose daemons stay as they are: database, messaging, time.
_KEPT = ("prepare", "packages", "sql", "infrastructure")
#: Made by the old image's own programs at boot, and made anew by the new one's.
_STALE = ("etc/.updated", "var/.updated", "etc/ld.so.cache")
#: Where a base has files that another one has otherwise, and what in them is the machine's own, from its driver.
_SYSTEM = ("etc", "usr", "opt", "var/lib/dpkg", "var/cache/ldconfig")
_MACHINES = frozenset({"etc/hostname", "etc/hosts", "etc/machine-id", "etc/resolv.conf", "etc/default/chrony"})
#: What another base's program cannot read, and what is nothing to keep: RabbitMQ 4 takes over only from 3.13 with all
#: feature flags, and its queues are empty while nothing runs (RabbitMQ: upgrade guide).
_EMPTIED = ("var/lib/rabbitmq/mnesia",)
#: What a base's image begins with and a node goes on with: MariaDB's system tables and undo logs, etcd's first member.
_DATA = ("var/lib/mysql", "var/lib/etcd")


def rebase(lab: Lab, old: Sequence[Path], before: Plan, after: Plan) -> None:
    """Prepare the machines of a lab, which are stopped and whose record names the new image.

    Daemons of the old release must not start with the new code before their tables are up to date: they are no longer
    enabled. Files of the old image that a recipe has changed would hide the new image's: these take their place, and
    the recipe changes them again. On another base all other files of the system do so too. Repeating it does no harm.

    :param old: the layers of the image that the machines had.
    """
    base = lab.spec.base != before.context.lab.base
    accounts = renumbered(old, lab.layers)

    def work(node: str) -> None:
        lab.driver.create(lab, node)
        root = lab.driver.files(lab, node)
        if root is None:
            raise BrokenLabError(
                f"{node}: the driver {lab.spec.driver} does not show its files", f"labctl down {lab.name}"
            )
        daemons = _daemons(before, node)
        for place in root.glob("etc/systemd/system/*.wants"):  # the links in it point to nothing on this machine
            for unit in daemons:
                files.erase(place / f"{unit}.service", within=root)
        written = {file.path for file in after.files(node)}
        for path in sorted({*_changed(before, node)} - written):
            _from_image(lab.layers, root, path.lstrip("/"))
        for name in _STALE:
            files.erase(root / name, within=root)
        frozen = lab.driver.written(lab, node, lab.stack[1:])
        if accounts:
            give(root, frozen, accounts)
        if base:
            for path in sorted(_of_system(frozen, old) - {name.lstrip("/") for name in written}):
                _from_image(lab.layers, root, path)
            for path in _EMPTIED:
                files.remove(root / path, within=root)
            for path in _DATA:
                data.keep(root, path, old, frozen, accounts)

    on_each(work, lab.spec.nodes)


def _of_system(frozen: Iterable[Path], old: Sequence[Path]) -> set[str]:
    """The files of the old image's system that a node has changed: programs' own settings, not data."""
    found = set[str]()
    for top in frozen:
        for directory in _SYSTEM:
            for place, _, names in os.walk(top / directory):
                paths = (str((Path(place) / name).relative_to(top)) for name in names)
                found.update(path for path in paths if path not in _MACHINES and stack.find(old, path) is not None)
    return found


def _operations(made: Plan, node: str, without: tuple[str, ...]) -> Iterator[Operation]:
    for stage in made.stages:
        if stage.name not in without:
            yield from stage.on(node)


def _daemons(made: Plan, node: str) -> set[str]:
    return {o.name for o in _operations(made, node, _KEPT) if isinstance(o, Unit)}


def _changed(made: Plan, node: str) -> Iterator[str]:
    """The files that a recipe writes, or changes."""
    for operation in _operations(made, node, ("prepare",)):
        if isinstance(operation, File | Assign):
            yield operation.path


def _from_image(layers: tuple[Path, ...], root: Path, name: str) -> None:
    """Make a file of a machine as its image has it, or remove it where that has none."""
    source = stack.find(layers, name)
    if source is None:
        files.erase(root / name, within=root)
    else:
        data.bring(source, root / name, root)
