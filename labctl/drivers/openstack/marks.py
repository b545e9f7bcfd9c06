"""The mark that everything of a lab carries on a cloud: home, lab and node, in one line.

Neutron's resources and volumes have it as their description, which is written when they are made, so that a killed
labctl leaves nothing without a mark; servers and images have it in their metadata.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.records import clouds
from labctl.records.lab import Lab

#: In metadata of servers and properties of images.
KEY = "labctl"
#: In the metadata of an image or a volume's snapshot: the layer whose content it is.
LAYER = "labctl_layer"
#: In the metadata of a volume: the disk that it is; that only its snapshots keep it.
DISK, RETIRED = "labctl_disk", "labctl_retired"
_FORM = re.compile(r"^labctl home=(?P<home>\w+) lab=(?P<lab>[\w-]+) id=(?P<id>\w+) part=(?P<part>\S+)$")


@dataclass(frozen=True)
class Mark:
    """Whose something is. ``part`` is a node, or what of the lab it is: a network, the gateway."""

    home: str
    lab: str
    id: str
    part: str

    def __str__(self) -> str:
        return f"labctl home={self.home} lab={self.lab} id={self.id} part={self.part}"


def of(lab: Lab, part: str) -> str:
    """The mark of something of a lab."""
    return str(Mark(clouds.home(), lab.name, lab.id, part))


def early(lab: str, part: str) -> str:
    """The mark of something of a lab that has no id yet."""
    return str(Mark(clouds.home(), lab, "none", part))


def group(lab: str) -> str:
    """The name of a lab's server group, which has no room for a mark."""
    return f"labctl.{clouds.home()}.{lab}"


def read(thing: Mapping[str, Any]) -> Mark | None:
    """The mark of something on a cloud; None where it is not labctl's."""
    metadata = thing.get("metadata")
    text = (metadata or {}).get(KEY) or thing.get(KEY) or thing.get("description") or ""
    found = _FORM.match(text)
    return Mark(**found.groupdict()) if found else None


def mine(thing: Mapping[str, Any], lab: str, part: str | None = None) -> bool:
    """True for something of this home's lab of that name, of any id; of one part of it if that is given."""
    mark = read(thing)
    return mark is not None and (mark.home, mark.lab) == (clouds.home(), lab) and part in (None, mark.part)
