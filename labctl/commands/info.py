"""A lab's summary and how to enter it: the box at the end of `up`, and the verb info."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from labctl.commands import terms
from labctl.commands.console import out
from labctl.commands.options import LabName
from labctl.lab.titles import describe
from labctl.records.journal import StageRecord
from labctl.records.lab import Lab


def print_stages(stages: Sequence[StageRecord]) -> None:
    """Print the seconds and CPU seconds of stages."""
    for record in stages:
        out.print(
            f"  {record.name:<15}{record.seconds:7.1f} s   cpu {record.cpu_seconds:6.1f} s   "
            f"{record.changed:3} changed {record.ok:3} ok"
        )
    # stages run side by side, so their seconds say nothing together
    began = min((r.finished - r.seconds for r in stages), default=0.0)
    seconds = max((r.finished for r in stages), default=0.0) - began
    cpu = sum(r.cpu_seconds for r in stages)
    changed = sum(r.changed for r in stages)
    out.print(f"  {'total':<15}{seconds:7.1f} s   cpu {cpu:6.1f} s   {changed:3} changed")


def print_info(name: str, credentials: bool = False) -> None:
    """Print addresses, credentials (their values only on request) and the commands to enter the lab."""
    from labctl.records import access

    lab = Lab.load(name)
    spec = lab.spec
    out.print(f"\n{name}: {describe(spec)}, driver {spec.driver}", style="bold")
    out.print(f"  owner        {terms.told(lab)}; labctl up {name} --ttl 8h renews it")
    for node in spec.nodes.values():
        cards = ", ".join(f"{i.name} {i.address or 'no address'} ({i.network})" for i in node.interfaces)
        out.print(f"  {node.name:<12} {cards}")
    for node_name in spec.later:
        out.print(f"  {node_name:<12} joins later: labctl node add {name} {node_name}")
    for project, source in spec.sources.items():
        out.print(f"  {project:<12} {source.title} from {source.origin}")
    if "guest" in lab.meta:
        out.print(f"  guest        {lab.meta['guest']}")
    out.print(f"  credentials  labctl env {name}; labctl env {name} --user demo; files in {lab.directory / 'access'}")
    if credentials:
        for who in ("admin", "demo"):
            shown = access.environment(lab, who)
            out.print(
                f"  {who:<12} user {shown['OS_USERNAME']}, password {shown['OS_PASSWORD']}, {shown['OS_AUTH_URL']}"
            )
    out.print(
        f"  enter        labctl ssh {name} NODE; labctl shell {name}; labctl exec {name} -- openstack server list"
    )
    out.print(f"  test         labctl test {name}")
    out.print(f"  remove       labctl down {name}")


def info(
    name: LabName,
    credentials: Annotated[bool, typer.Option("--credentials", help="show the passwords too")] = False,
) -> None:
    """Show a lab's addresses, how to enter it, and how long its stages took."""
    lab = Lab.load(name)
    print_stages(lab.journal().stages)
    print_info(name, credentials)
