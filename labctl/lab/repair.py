"""The condition of a lab, and its recovery after its machines died or its host rebooted."""

from __future__ import annotations

from labctl.engine.converge import STOP
from labctl.engine.health import gate
from labctl.errors import LabError
from labctl.host import paths
from labctl.host.threads import on_each
from labctl.images import store
from labctl.lab import fault
from labctl.lab import snapshot as snaps
from labctl.progress import note, step, warn
from labctl.records.lab import Lab, exists, half_removed


def recorded() -> list[str]:
    """Every lab with a directory in this home, including those without a record or being removed."""
    root = paths.labs()
    return sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []


def condition(lab: Lab) -> tuple[str, str]:
    """The state of a recorded lab's machines, and the command to run when something is wrong."""
    machines = [lab.driver.machine(lab, node) for node in lab.spec.nodes]
    running = sum(m.running for m in machines)
    lost = sum(bool(lab.driver.lost(lab, node)) for node in lab.spec.nodes)
    words = f"{running}/{len(machines)} running" + (f", {lost} cut off" if lost else "")
    if running == len(machines) and not lost:
        return words, ""
    if running or any(m.exists for m in machines):
        return words, f"labctl repair {lab.name}"
    if lab.journal().stages:
        return "gone", f"labctl repair {lab.name}"
    return "not created yet", lab.up()


def remnant(name: str) -> str:
    """The state of a lab without a record; empty when it has one."""
    if half_removed(name):
        return "half removed"
    return "" if exists(name) else "no record"


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
