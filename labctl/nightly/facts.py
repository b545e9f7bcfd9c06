"""Inputs of a run and an attempt: this machine, labctl's commit and code, a lab's images and packages."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import labctl
from labctl import __version__, checkout, shipped
from labctl.errors import LabError
from labctl.host import memory, paths, process
from labctl.nightly.matrix import Cell
from labctl.records.lab import Lab
from labctl.topology import load

#: Sources that decide how a lab is built and tested.
SOURCES = ("labctl", "e2e", "topologies", "kickstart")


def git_commit() -> str:
    """The checked-out commit, with ``+`` appended when files were modified; empty without a checkout."""
    if (root := checkout()) is None:
        return ""
    try:
        commit = process.output(["git", "-C", root, "rev-parse", "HEAD"])
        changed = process.output(["git", "-C", root, "status", "--porcelain", "--untracked-files=no", "--", *SOURCES])
    except LabError:
        return ""
    return f"{commit}+" if changed else commit


def source() -> str:
    """Hash of the code, the suites and the topologies on disk: equal code, equal hash."""
    found = hashlib.sha256()
    for name in SOURCES:
        folder = Path(labctl.__file__).parent if name == "labctl" else shipped(name)
        for path in sorted(folder.rglob("*")):
            place = path.relative_to(folder)
            if path.is_file() and path.suffix != ".pyc" and not {"nightly", "data"} & set(place.parts):
                found.update(f"{name}/{place}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def host() -> dict[str, Any]:
    """This machine: cores, memory available to new machines in bytes, kernel, Python."""
    return {
        "cores": os.cpu_count() or 1,
        "memory": memory.available(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "name": platform.node(),
    }


def run_facts() -> dict[str, str]:
    """The columns of a run that record its inputs."""
    return {
        "host": json.dumps(host()),
        "version": __version__,
        "git_commit": git_commit(),
        "source": source(),
    }


def images(name: str) -> list[str]:
    """Names of the image layers that a lab is built on; content addresses."""
    try:
        return [layer.name for layer in Lab.load(name).layers]
    except LabError:
        return []


def sources(name: str) -> dict[str, dict[str, str]]:
    """The projects that a lab has from repositories of their own: their commits, and the layers made of them."""
    try:
        found = Lab.load(name).spec.sources
    except LabError:
        return {}
    return {project: {"commit": source.commit, "layer": source.layer} for project, source in found.items()}


def packages(image: str) -> dict[str, str]:
    """The packages of an image and their versions, from its manifest; empty when it has none."""
    try:
        manifest = json.loads((paths.images() / image / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}
    found: dict[str, str] = {}
    for key in ("packages", "distributions"):
        if isinstance(manifest.get(key), dict):
            found |= {str(name): str(version) for name, version in manifest[key].items()}
    return found


def inputs(cell: Cell, source_hash: str, image_names: list[str], own: Mapping[str, Mapping[str, str]]) -> str:
    """Hash of all that decides an attempt's outcome: different outcomes on equal hashes are a flake."""
    try:
        topology = load.find(cell.topology).read_text()
    except (LabError, OSError):
        topology = ""
    tests = (cell.select, cell.keyword, cell.smoke, cell.workers)
    asked = (cell.release, cell.base, cell.driver, *tests, cell.join, cell.upgrade, cell.chosen)
    layers = [*image_names, *(each["layer"] for each in own.values())]
    text = json.dumps([source_hash, topology, layers, asked])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
