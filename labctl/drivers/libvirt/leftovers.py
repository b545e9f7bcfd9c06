"""Domains found by their mark, for those who have nothing of a lab but its name."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from labctl.drivers.libvirt.connection import asked, installed, meant, release
from labctl.errors import LabError
from labctl.host import paths


def remains(name: str) -> list[str]:
    """The domains that carry the mark of a lab of this home, for those who have nothing but its name."""
    return [f"domain {domain.name()}" for domain in _marked(name)]


def sweep(name: str) -> list[str]:
    """End a lab's domains by their mark; returns those that do not end."""
    found = _marked(name)
    for domain in found:
        with suppress(LabError):  # what is left is told
            asked(domain.destroy)
    return remains(name) or (release() if found else [])


def _marked(name: str) -> list[Any]:
    connection = meant()
    if connection.idle or not installed():
        return []
    home = str(paths.home())
    return [d for mark, d in connection.labs_domains() if (mark.lab, mark.home) == (name, home)]
