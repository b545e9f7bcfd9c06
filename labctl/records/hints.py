"""The command line that creates a lab, or resumes it, for hints."""

from __future__ import annotations

import shlex
from pathlib import Path

from labctl.errors import LabError
from labctl.topology.check import first_driver
from labctl.topology.known import known
from labctl.topology.load import find, load
from labctl.topology.spec import LabSpec

#: The topology of a first lab.
EXAMPLE = "zed-2node"


def line(verb: str, topology: str, **options: str | None) -> str:
    """The command line of a verb that takes a topology, with those of the options that have a value."""
    words = (word for option, value in options.items() if value is not None for word in (f"--{option}", value))
    return shlex.join(["labctl", verb, topology, *words])


def up(spec: LabSpec, file: Path, name: str | None = None) -> str:
    """The ``up`` command that creates this lab, or resumes it where it is recorded.

    It has the options without which the topology's file would mean another lab, and all of them where that file
    cannot be read.

    :param file: the topology's.
    :param name: create it under this name instead.
    """
    lab = name or spec.name
    release, base, driver = _choices(spec, file)
    named = None if lab == spec.topology else lab
    cloud = spec.cloud or None
    return line("up", _word(spec, file), name=named, release=release, base=base, driver=driver, cloud=cloud)


def first(name: str) -> str:
    """The ``up`` command for a lab that does not exist: of the topology with its name, if there is one."""
    return line("up", name if name in known() else EXAMPLE)


def _word(spec: LabSpec, file: Path) -> str:
    """The topology's name, where that finds this file; else the file."""
    try:
        return spec.topology if find(spec.topology).samefile(file) else str(file)
    except (LabError, OSError):
        return str(file)


def _choices(spec: LabSpec, file: Path) -> tuple[str | None, str | None, str | None]:
    """Release, base and driver of a lab, each None where the topology's file already implies it."""
    try:
        topology = load(file)
        release = spec.release if spec.release != topology.release else None
        topology = load(file, release) if release else topology
    except LabError:
        return spec.release, spec.base, spec.driver
    base = spec.base if spec.base != topology.bases[0] else None
    return release, base, spec.driver if spec.driver != first_driver(topology, base) else None
