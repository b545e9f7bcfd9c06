"""The recovery of a lab after its machines died or its host rebooted."""

from __future__ import annotations

from labctl.engine.converge import STOP
from labctl.engine.health import gate
from labctl.errors import LabError
from labctl.host.threads import on_each
from labctl.images import store
from labctl.lab import fault
from labctl.lab import snapshot as snaps
from labctl.progress import note, step, warn
from labctl.records.lab import Lab


def repair(lab: Lab, *, verified: bool = False) -> list[str]:
    """Restore a lab's lost network, mounts and machines; the caller holds its lock.

    Nothing is reconfigured; ``up`` does that.

    :param verified: its golden image was just verified.
    :returns: the nodes whose machines were started.
    :raises LabError: the lab cannot be restored, for example because its image is gone.
    :raises BrokenLabError: its machines run, but it is not healthy.
    """
    if not lab.stack or not lab.top.is_dir():
        raise LabError(f"the writable layer of {lab.name} is missing: {lab.top}", f"labctl down {lab.name}")
    snaps.sweep(lab)
    try:
        fault.heal_all(lab, start=False)
    except LabError as error:  # starting its machine may fix it anyway
        warn("lab", error.message)
    lost = {node: why for node in lab.spec.nodes if (why := lab.driver.lost(lab, node))}
    for node, why in lost.items():
        note(node, f"restarting: {why}")
    dead = [node for node in lab.spec.nodes if node in lost or not lab.driver.machine(lab, node).running]

    def bring(node: str) -> None:
        if node in lost:
            lab.driver.stop(lab, node, STOP)
        lab.driver.create(lab, node)
        lab.driver.start(lab, node)

    if dead:
        with step("lab", f"start {', '.join(dead)}"):
            if not verified:
                with store.keeping():
                    lab.record_image(lab.driver.image(lab))
            lab.ensure_keys()
            lab.driver.create_network(lab)
            on_each(bring, dead)
    gate(lab)
    return dead
