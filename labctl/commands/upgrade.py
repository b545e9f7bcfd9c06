"""The verb upgrade: from one release to the next, proven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from labctl import releases
from labctl.commands.console import Format, listing, out
from labctl.commands.options import LabName, Output
from labctl.commands.snapshot import changing
from labctl.records.lab import Lab
from labctl.upgrade.record import HopRecord, place

if TYPE_CHECKING:
    from labctl.upgrade.chain import Hop

COLUMNS = ["hop", "seconds", "smoke", "APIs away", "guest away", "estate"]


def upgrade(
    name: LabName,
    to: Annotated[str, typer.Option("--to", metavar="RELEASE", help="the release to come to, by name or number")] = "",
    mechanism: Annotated[
        str, typer.Option(metavar="DRIVER", help="the mechanism driver to have at the end: openvswitch or ovn")
    ] = "",
    until: Annotated[str, typer.Option(metavar="RELEASE", help="stop after the hop to this release")] = "",
    keep: Annotated[
        bool, typer.Option("--keep-snapshots", help="keep the snapshot before each hop, not only the first and last")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the hops, do nothing")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Bring a lab to a later release or another mechanism driver, hop by hop, and prove each time that it lives."""
    from labctl.lab.choose import has_datapath
    from labctl.upgrade import chain

    if not to and not mechanism:
        raise typer.BadParameter("say where to go: --to RELEASE, --mechanism DRIVER, or both")

    def hops_of(lab: Lab) -> tuple[Hop, ...]:
        return chain.plan(lab.spec, to, until, mechanism, kernel=has_datapath(lab.spec))

    if dry_run:
        listing(output, [_foretold(hop) for hop in hops_of(Lab.load(name))], ["hop", "snapshot", "does"])
        return
    from labctl.upgrade.run import Upgrade  # the SDK takes a while to load

    options = {"--to": to, "--mechanism": mechanism}
    wanted = " ".join(f"{option} {value}" for option, value in options.items() if value)
    with changing(name, f"labctl upgrade {name} {wanted}") as lab:
        state = Upgrade(lab, wanted, hops_of(lab), keep=keep).run()
    if not state.hops and output is Format.TABLE:
        out.print(f"{name} has {releases.get(lab.spec.release).title} and {lab.spec.mechanism.value}")
        return
    listing(output, [_told(hop) for hop in state.hops], COLUMNS)


def _foretold(hop: Hop) -> dict[str, object]:
    """A hop before it is done."""
    from labctl.plan import hop as hops
    from labctl.services.base import Context

    before, after = Context.of(hop.before), Context.of(hop.after)
    made, facts = hops.hop(before, after), hops.particular(before, after)
    does = [f"{sum(stage.operations() for stage in made.stages)} operations"]
    if facts.removed_services:
        does.append(f"without {', '.join(facts.removed_services)}")
    if facts.policy_yaml:
        does.append(f"policy.yaml for {', '.join(facts.policy_yaml)}")
    return {"hop": hop.title, "snapshot": hop.snapshot, "does": "; ".join(does), **place(hop.after).model_dump()}


def _told(hop: HopRecord) -> dict[str, object]:
    """A hop that is done."""
    apis = {what: gap for what, gap in hop.gaps.items() if what != "guest"}
    return {
        "hop": hop.title,
        "seconds": f"{hop.duration:.0f}",
        "smoke": hop.smoke,
        "APIs away": f"{max(apis.values()):.0f} s" if apis else "-",
        "guest away": f"{hop.gaps['guest']:.0f} s" if "guest" in hop.gaps else "-",
        "estate": hop.estate,
        "steps": hop.seconds,
        "gaps": hop.gaps,
        "snapshot": hop.snapshot,
    }
