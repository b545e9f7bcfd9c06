"""A cloud for the driver openstack: whether it answers, what it has and may still give, and this host's tunnels."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from labctl.doctor.host import Finding, State
from labctl.drivers.openstack import configured, ports, quota
from labctl.drivers.openstack.cloud import Cloud, opened
from labctl.drivers.openstack.networks import external
from labctl.errors import LabError
from labctl.host import process

TUN = Path("/dev/net/tun")
#: What no lab is without, and what labs with additional disks need.
SERVICES, VOLUMES = ("compute", "network", "image"), "block-storage"
#: What the smallest lab takes: a node and a gateway.
LEAST = {"servers": 2, "virtual CPUs": 2, "networks": 2, "subnets": 3, "ports": 4, "routers": 1, "floating IPs": 1}


def examine(name: str | None = None) -> list[Finding]:
    """Every finding about a cloud; without a name only which clouds are configured, and nothing is asked."""
    if name is None:
        return _configured()
    cloud = opened(name)
    try:
        said = f"answers, project {cloud.project}, {len(cloud.extensions)} extensions of its network"
        found = [Finding(f"cloud {name}", State.OK, said)]
    except LabError as error:
        return [_problem(f"cloud {name}", error), *tunnels()]
    checks: tuple[tuple[str, Callable[[Cloud], Finding]], ...] = (
        ("cloud services", _services),
        ("external network", _outside),
        ("cloud packet filter", _filter),
        ("cloud quotas", _quotas),
    )
    for check, work in checks:
        try:
            found.append(work(cloud))
        except LabError as error:
            found.append(_problem(check, error))
    unknown = "unknown: a cloud's API does not say; a node tries it when it starts, and emulates guests otherwise"
    return [*found, Finding("nested KVM there", State.NOTE, unknown), *tunnels()]


def _problem(check: str, error: LabError) -> Finding:
    return Finding(check, State.PROBLEM, error.message, error.hint)


def _configured() -> list[Finding]:
    try:
        known = configured.names()
        if not known:
            return []
        said = f"{', '.join(known)} in {configured.file() or 'the environment'}; not asked"
        return [Finding("clouds.yaml", State.OK, said, f"labctl doctor --cloud {known[0]}")]
    except LabError as error:
        return [Finding("clouds.yaml", State.NOTE, error.message, "no driver openstack until it is corrected")]


def _services(cloud: Cloud) -> Finding:
    found = [service for service in (*SERVICES, VOLUMES) if cloud.has(service)]
    hint = cloud.command("catalog list")
    if absent := [service for service in SERVICES if service not in found]:
        return Finding("cloud services", State.PROBLEM, f"it has no {', '.join(absent)}", hint)
    if VOLUMES not in found:
        said = f"{', '.join(found)}; no {VOLUMES}: nodes have no additional disks"
        return Finding("cloud services", State.NOTE, said, hint)
    return Finding("cloud services", State.OK, ", ".join(found))


def _outside(cloud: Cloud) -> Finding:
    return Finding("external network", State.OK, str(external(cloud)["name"]))


def _filter(cloud: Cloud) -> Finding:
    if ports.PORT_SECURITY in cloud.extensions:
        return Finding("cloud packet filter", State.OK, "ports can be without one, if its policy allows that")
    hint = cloud.command("extension list --network")
    if ports.PAIRS in cloud.extensions:
        said = "ports have one in any case: no labs with Neutron's agents on a provider network"
        return Finding("cloud packet filter", State.NOTE, said, hint)
    return Finding("cloud packet filter", State.PROBLEM, f"{ports.filtered(cloud)}, and none of {ports.PAIRS}", hint)


def _quotas(cloud: Cloud) -> Finding:
    room = quota.left(cloud, volumes=cloud.has(VOLUMES))
    said = ", ".join(f"{max(number, 0)} {what}" for what, number in room.items()) or "no limits"
    short = [f"{least} {what}" for what, least in LEAST.items() if room.get(what, least) < least]
    if short:
        hint = cloud.command("quota show --usage")
        return Finding("cloud quotas", State.PROBLEM, f"left: {said}; the smallest lab needs {', '.join(short)}", hint)
    return Finding("cloud quotas", State.OK, f"left: {said}")


def tunnels() -> list[Finding]:
    """What this host needs for the tunnels into a cloud's networks: tap devices, and OpenSSH."""
    if TUN.is_char_device():
        tap = Finding("tap for tunnels", State.OK, f"{TUN} is there")
    else:
        tap = Finding("tap for tunnels", State.PROBLEM, f"no {TUN}: no tunnel into a cloud's networks", "modprobe tun")
    if process.missing("ssh"):
        return [tap, Finding("ssh for tunnels", State.PROBLEM, "not installed", "apt-get install openssh-client")]
    said = process.run(["ssh", "-V"], check=False, timeout=10).stderr.strip()
    version = re.match(r"OpenSSH_\S+", said)
    if version is None:
        said = f"{said or 'it says no version'}; only OpenSSH has tunnels of layer 2"
        return [tap, Finding("ssh for tunnels", State.PROBLEM, said, "apt-get install openssh-client")]
    return [tap, Finding("ssh for tunnels", State.OK, version[0].rstrip(","))]
