"""The stages in which a lab is brought up, in their order."""

from __future__ import annotations

#: The driver makes the machines; every other stage is operations on nodes and APIs.
MACHINES = "machines"
STAGES = (
    MACHINES,
    "prepare",
    "packages",
    "infrastructure",
    "keystone",
    "catalog",
    "configure",
    "databases",
    "services",
    "compute",
    "fixtures",
    "verify",
)
