"""Where labctl keeps things."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """labctl's own directory: $LABCTL_HOME, /var/lib/labctl for root, the user's state directory else.

    Without symbolic links in it, as the kernel names mounts and the files behind loop devices.
    """
    if chosen := os.environ.get("LABCTL_HOME"):
        return Path(chosen).resolve()
    if os.geteuid() == 0:
        return Path("/var/lib/labctl").resolve()
    return Path(platformdirs.user_state_path("labctl")).resolve()


def mark() -> str:
    """What tells this home's resources from those of another labctl home on this machine."""
    return hashlib.sha256(str(home()).encode()).hexdigest()[:8]


def labs() -> Path:
    """One directory a lab."""
    return home() / "labs"


def images() -> Path:
    """The image store."""
    return home() / "images"


def logs() -> Path:
    """What programs said that failed, image builds among them, until ``labctl gc`` removes it."""
    return home() / "logs"


def cache() -> Path:
    """What was downloaded and can be downloaded again: $LABCTL_CACHE, which homes may share, or the home's own."""
    chosen = os.environ.get("LABCTL_CACHE")
    return Path(chosen).resolve() if chosen else home() / "cache"
