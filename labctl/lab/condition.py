"""The condition of a lab's machines, as its driver sees them from outside."""

from __future__ import annotations

from labctl.records.lab import Lab


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
