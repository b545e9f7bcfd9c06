"""The clouds on which this home has something: what ``down`` and ``gc`` ask when a lab's record is lost.

A lab is noted before the first thing of it is made on its cloud, and forgotten when nothing is left there; so is a
cloud with golden images, which stay when a lab goes. A home has a random id, which every such thing carries: two people
may share a project, and homes of one path two machines.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Set
from pathlib import Path
from types import MappingProxyType

from pydantic import Field

from labctl.host import files, lock, paths, state
from labctl.topology.model import Frozen


class _Clouds(Frozen):
    """What the file says: this home's id, the cloud of each lab, and the clouds with golden images."""

    home: str = Field(pattern=r"^[0-9a-f]{12}$")
    labs: dict[str, str] = Field(default_factory=dict)
    images: frozenset[str] = frozenset()


def _file() -> Path:
    return paths.home() / "clouds.json"


def _read() -> _Clouds:
    if not _file().exists():
        return _Clouds(home=secrets.token_hex(6))
    found: _Clouds = state.read(_file(), _Clouds, "labctl list")
    return found


def _change(
    labs: Mapping[str, str | None] = MappingProxyType({}),
    *,
    more: Set[str] = frozenset(),
    fewer: Set[str] = frozenset(),
) -> _Clouds:
    """Note clouds of labs, and more and fewer clouds with images."""
    with lock.exclusive(_file().with_name("clouds.lock"), "notes a lab's cloud"):
        before = _read()
        merged = {**before.labs, **labs}
        kept = {name: cloud for name, cloud in merged.items() if cloud is not None}
        after = before.model_copy(update={"labs": kept, "images": (before.images | more) - fewer})
        if after != before or not _file().exists():
            files.write_atomic(_file(), after.model_dump_json(indent=1) + "\n", 0o600)
    return after


def home() -> str:
    """This home's id in its marks on clouds."""
    return _read().home if _file().exists() else _change().home


def known() -> dict[str, str]:
    """The labs that may have something on a cloud, each with its cloud's name."""
    return _read().labs if _file().exists() else {}


def remember(lab: str, cloud: str) -> None:
    """Note that a lab may have something on a cloud from now on."""
    _change({lab: cloud})


def forget(lab: str) -> None:
    """Note that nothing of a lab is left on any cloud."""
    if lab in known():
        _change({lab: None})


def places() -> list[str]:
    """The clouds that may have something of this home: a lab's, or golden images."""
    return sorted({*_read().labs.values(), *_read().images}) if _file().exists() else []


def keeps_images(cloud: str) -> None:
    """Note that a cloud may have golden images of this home from now on."""
    if not _file().exists() or cloud not in _read().images:
        _change(more={cloud})


def keeps_none(cloud: str) -> None:
    """Note that a cloud has no golden images of this home any more; one with a lab may have the next at any moment."""
    now = _read()
    if cloud in now.images and cloud not in now.labs.values():
        _change(fewer={cloud})
