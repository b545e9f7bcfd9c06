"""Tables that depend on a project's modules alone, so a golden image has them ready for every lab (images/ready.py).

A project's program makes them from nothing in seconds of processor time, most of them for importing its modules; a
dump is loaded in tenths. Cells, endpoints and whatever else belongs to a lab is made in the lab.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl.releases.model import PackageSource, Placement, Release
from labctl.services.glance import definitions


@dataclass(frozen=True)
class Schema:
    """Databases that get the same tables, the program and its arguments, and the section that names the database."""

    databases: tuple[str, ...]
    program: str
    commands: tuple[str, ...]
    section: str = "database"


def schemas(release: Release, source: PackageSource) -> tuple[Schema, ...]:
    """Every schema of a release, of whatever project an image has."""
    return (
        Schema(("keystone",), "keystone-manage", ("db_sync",)),
        Schema(("glance",), "glance-manage", ("db_sync", f"db_load_metadefs {definitions(release, source)}")),
        *(
            (
                Schema(("placement",), "placement-manage", ("db sync",), "placement_database"),
                Schema(("nova_api",), "nova-manage", ("api_db sync",), "api_database"),
                # without cells: nova-manage db sync does the same for each of them
                Schema(("nova", "nova_cell0"), "nova-manage", ("db sync --local_cell",)),
            )
            if release.placement is Placement.PACKAGE
            else ()
        ),
        Schema(("neutron",), "neutron-db-manage", ("upgrade head",)),
        Schema(("cinder",), "cinder-manage", ("db sync",)),
        Schema(("heat",), "heat-manage", ("db_sync",)),
        Schema(("aodh",), "aodh-dbsync", ("",)),
    )
