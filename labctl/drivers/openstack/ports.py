"""Ports through which everything of a lab passes, also on a cloud that filters them in any case.

Port security is turned off. Where a cloud has no such extension, or its policy forbids that, a port lets any address of
its own MAC address pass (a pair with 0.0.0.0/0 is one for any address), and a security group of the lab's lets in and
out what comes. Neutron has no pair for any MAC address (its specification "Allowed Address Pair: support matching ANY
MAC address" says so and is not built): guests on a provider network, whose MAC addresses nobody knows before, do not
get through, so a lab with Neutron's agents on one is refused.
"""

from __future__ import annotations

from typing import Any

from labctl.components import Component
from labctl.drivers.openstack import marks
from labctl.drivers.openstack.cloud import Cloud, Refusal
from labctl.errors import LabError
from labctl.records.lab import Lab

#: Neutron's extensions.
PORT_SECURITY, PAIRS = "port-security", "allowed-address-pairs"
#: The part of a lab that its security group is; nodes' names have no underscore.
OPEN = "_open"
ANYWHERE = ("0.0.0.0/0", "::/0")


def owned(cloud: Cloud, lab: Lab, kind: str, part: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """The lab's own resource of a kind; made if there is none. What has its name only is left alone."""
    mark = marks.of(lab, part)
    plural = f"{kind}s".replace("-", "_")
    key = kind.replace("-", "_")
    for there in cloud.get("network", f"/v2.0/{kind}s", {"description": mark})[plural]:
        found: dict[str, Any] = there
        return found
    about = {"name": f"{lab.name}.{name}", "description": mark, **body}
    made: dict[str, Any] = cloud.post("network", f"/v2.0/{kind}s", {key: about})[key]
    return made


def filtered(cloud: Cloud) -> str:
    """Why a cloud filters what passes its ports, as far as is known; empty if that can be turned off."""
    if PORT_SECURITY not in cloud.extensions:
        return f"it has no extension {PORT_SECURITY}"
    return cloud.forbids


def check(cloud: Cloud, lab: Lab) -> None:
    """Say whether a lab's packets pass a cloud's ports.

    :raises LabError: they would not; says why.
    """
    why = filtered(cloud)
    if not why:
        return
    hint = cloud.command("extension list --network")
    if PAIRS not in cloud.extensions:
        raise LabError(
            f"the cloud {cloud.name} filters the packets of a lab's networks and does not let that be turned off: "
            f"{why}, and none of {PAIRS}",
            hint,
        )
    if lab.spec.providers and lab.spec.has(Component.NEUTRON_L2):
        names = ", ".join(each.name for each in lab.spec.providers)
        raise LabError(
            f"{lab.spec.topology} has Neutron's agents on the provider network {names}, behind which are MAC addresses "
            f"that nobody knows before; the cloud {cloud.name} lets known ones pass only: {why}",
            f"{lab.up()} with another driver",
        )


def make(cloud: Cloud, lab: Lab, about: dict[str, Any], mac: str = "") -> str:
    """Make a port through which everything passes; its id.

    :param mac: of what sends through the port, where that is not the port itself.
    :raises LabError: the cloud does not let it pass.
    """
    if not filtered(cloud):
        try:
            return _posted(cloud, {**about, "port_security_enabled": False})
        except Refusal as error:
            if error.status != 403:
                raise
            cloud.forbids = error.reason
    check(cloud, lab)
    pairs = [{"ip_address": each, **({"mac_address": mac} if mac else {})} for each in ANYWHERE]
    return _posted(cloud, {**about, "allowed_address_pairs": pairs, "security_groups": [_group(cloud, lab)]})


def _posted(cloud: Cloud, about: dict[str, Any]) -> str:
    return str(cloud.post("network", "/v2.0/ports", {"port": about})["port"]["id"])


def _group(cloud: Cloud, lab: Lab) -> str:
    """The id of the security group that lets everything in and out; the gateway's first port makes it."""
    group = str(owned(cloud, lab, "security-group", OPEN, "open", {})["id"])
    found = cloud.get("network", "/v2.0/security-group-rules", {"security_group_id": group})["security_group_rules"]
    there = {(rule["direction"], rule["ethertype"]) for rule in found if not rule.get("protocol")}
    for direction in ("ingress", "egress"):
        for family in ("IPv4", "IPv6"):
            if (direction, family) not in there:
                allow(cloud, {"security_group_id": group, "direction": direction, "ethertype": family})
    return group


def allow(cloud: Cloud, rule: dict[str, Any]) -> None:
    """Add a rule to a security group; one that is there is no error."""
    try:
        cloud.post("network", "/v2.0/security-group-rules", {"security_group_rule": rule})
    except Refusal as error:
        if error.status != 409:
            raise
