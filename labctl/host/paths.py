"""labctl's directories."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """labctl's own directory: $LABCTL_HOME, /var/lib/labctl for root, otherwise the user's state directory.

    Symbolic links are resolved, as in the kernel's names of mounts and of files behind loop devices.
    """
    if chosen := os.environ.get("LABCTL_HOME"):
        return Path(chosen).resolve()
    if os.geteuid() == 0:
        return Path("/var/lib/labctl").resolve()
    return Path(platformdirs.user_state_path("labctl")).resolve()


def mark() -> str:
    """The mark that distinguishes this home's resources from those of other labctl homes on this machine."""
    return hashlib.sha256(str(home()).encode()).hexdigest()[:8]


def labs() -> Path:
    """One directory per lab."""
    return home() / "labs"


def images() -> Path:
    """The image store."""
    return home() / "images"


def logs() -> Path:
    """Output of failed programs and image builds, kept until ``labctl gc``."""
    return home() / "logs"


def archives() -> Path:
    """Exported labs on their way here or elsewhere, with the labs' keys: never in a cache that homes share."""
    return home() / "archives"


def cache() -> Path:
    """Cached downloads: $LABCTL_CACHE, which homes may share, or the home's own."""
    chosen = os.environ.get("LABCTL_CACHE")
    return Path(chosen).resolve() if chosen else home() / "cache"
