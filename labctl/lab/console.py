"""A guest's console in a browser: noVNC's page with a token of nova's."""

from __future__ import annotations

from urllib.parse import urlsplit

from labctl.errors import LabError
from labctl.records import cloud
from labctl.records.access import Access

#: Without it noVNC's page waits for a click.
CONNECT = "autoconnect=true"


def url(lab: Access, server: str) -> str:
    """The address of a guest's console, good for the ten minutes that nova keeps its token; inside the namespace only.

    :param server: name or id, of any project.
    :raises LabError: there is no such server, there are several, or it has no console now.
    """
    from openstack import exceptions

    compute, listing = cloud.as_admin(lab).compute, f"labctl exec {lab.lab} -- openstack server list --all-projects"
    try:
        found = compute.find_server(server, ignore_missing=True, all_projects=True)
        if found is None:
            raise LabError(f"{lab.lab} has no server '{server}'", listing)
        made = str((compute.create_console(found, "novnc") or {})["url"])
    except exceptions.DuplicateResource as error:
        raise LabError(f"{lab.lab} has several servers named '{server}'", f"{listing} shows their ids") from error
    except exceptions.ConflictException as error:
        raise LabError(f"{server} has no console now: {error.details or error}", listing) from error
    return f"{made}&{CONNECT}"


def moved(address: str, place: str) -> str:
    """The same address at another host and port: ``127.0.0.1:6080``."""
    return urlsplit(address)._replace(netloc=place).geturl()
