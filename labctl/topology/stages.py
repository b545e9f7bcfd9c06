"""The stages of bringing up a lab, in order."""

from __future__ import annotations

#: The driver creates the machines; all other stages are operations on nodes and APIs.
MACHINES = "machines"
STAGES = (
    MACHINES,
    "prepare",
    "packages",
    "sql",
    "infrastructure",
    "keystone",
    "catalog",
    "configure",
    "databases",
    "services",
    "compute",
    "settle",
    "fixtures",
    "verify",
)
