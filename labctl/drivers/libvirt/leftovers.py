"""Leftover domains, found by their mark, for callers that know only a lab's name."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from labctl.drivers.libvirt.connection import asked, installed, meant, release
from labctl.errors import LabError
from labctl.host import paths


def remains(name: str) -> list[str]:
    """Domains with the mark of a lab of this home."""
    return [f"domain {domain.name()}" for domain in _marked(name)]


def sweep(name: str) -> list[str]:
    """Destroy a lab's domains by their mark; returns those that did not end."""
    found = _marked(name)
    for domain in found:
        with suppress(LabError):  # what is left is returned
            asked(domain.destroy)
    return remains(name) or (release() if found else [])


def _marked(name: str) -> list[Any]:
    connection = meant()
    if connection.idle or not installed():
        return []
    home = str(paths.home())
    return [d for mark, d in connection.labs_domains() if (mark.lab, mark.home) == (name, home)]
