"""The largest packet that a project's networks carry: of its own ones, else of one that is made to ask.

Neutron tells it only of a network that exists. It is asked before there is a lab, so the lab's name is noted as that of
any lab, and the network has its mark: ``down`` and ``gc`` find it where labctl is killed before it is removed.
"""

from __future__ import annotations

from labctl.drivers.openstack import leftovers, marks
from labctl.drivers.openstack.cloud import Cloud
from labctl.errors import LabError
from labctl.records import clouds
from labctl.records.directory import exists

#: The part of a lab that the network is; nodes' names have no underscore.
QUESTION = "_mtu"
#: Where Neutron tells none: Ethernet's.
ETHERNET = 1500


def carried(cloud: Cloud, lab: str) -> int:
    """Bytes of the largest packet that a project's networks carry.

    :param lab: the name of the lab that asks; it may not exist yet.
    :raises LabError: a lab of that name has something on another cloud.
    """
    noted = clouds.known().get(lab)
    if noted not in (None, cloud.name):
        raise LabError(
            f"{lab} has something on the cloud {noted}, and is not made on {cloud.name}", f"labctl down {lab}"
        )
    if noted and not exists(lab):  # perhaps an earlier question was cut off
        leftovers.remove(cloud, lab, QUESTION)
        leftovers.remains(lab)
    found = cloud.get("network", "/v2.0/networks", {"router:external": False})["networks"]
    known = [int(each["mtu"]) for each in found if each.get("mtu")]
    return min(known) if known else _asked(cloud, lab)


def _asked(cloud: Cloud, lab: str) -> int:
    new = lab not in clouds.known()
    if new:
        clouds.remember(lab, cloud.name)
    about = {"name": f"{lab}.mtu", "description": marks.early(lab, QUESTION)}
    made = cloud.post("network", "/v2.0/networks", {"network": about})["network"]
    cloud.delete("network", f"/v2.0/networks/{made['id']}")
    if new and not exists(lab):
        clouds.forget(lab)
    return int(made.get("mtu") or ETHERNET)
