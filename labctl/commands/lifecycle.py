"""Verbs that create and remove labs: up, down."""

from __future__ import annotations

from functools import cache
from textwrap import indent
from typing import Annotated

import typer

from labctl import drivers
from labctl.artefacts import place
from labctl.commands import complete, terms
from labctl.commands.console import out, progress
from labctl.commands.options import BaseName, CloudName, DriverName, LabName, OwnName, ReleaseName, TopologyName
from labctl.errors import LabError, RefusedError
from labctl.host import paths
from labctl.records import lease
from labctl.records.directory import exists, names
from labctl.records.lab import Lab, locked
from labctl.records.lease import Terms
from labctl.topology.stages import STAGES


def up(
    topology: TopologyName,
    name: OwnName = None,
    release: ReleaseName = None,
    base: BaseName = None,
    driver: DriverName = None,
    cloud: CloudName = None,
    until: Annotated[str, typer.Option(help="stop after this stage")] = "verify",
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SNAPSHOT|FILE|URL",
            autocompletion=complete.snapshots,
            help="begin from a snapshot of the lab, or from what labctl snapshot export wrote",
        ),
    ] = "",
    ttl: terms.Ttl = None,
    owner: terms.Owner = None,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="PROJECT=WHERE", help="a project from a tree of your own: labctl source --help"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan, change nothing")] = False,
) -> None:
    """Create a lab, or converge an existing one to its topology; `labctl up LAB --ttl 8h` renews one that is up."""
    from labctl.commands.info import print_info, print_stages
    from labctl.commands.wanted import Wanted
    from labctl.diagnose import report as diagnoses
    from labctl.lab import bundle
    from labctl.lab import source as sources
    from labctl.lab import up as bring

    if until not in STAGES:
        raise LabError(f"there is no stage '{until}'; stages: {', '.join(STAGES)}")
    wanted, given = Wanted(topology, name, release, base, driver, cloud), Terms.given(owner, ttl)
    if given and not wanted.known() and topology in names():
        _renew(topology, given)
        return
    spec, path = wanted.specify(again=not start)
    if dry_run:
        from labctl.commands.plan import print_plan

        print_plan(spec)
        return
    drivers.get(spec.driver, spec.cloud).probe()
    if given and not (source or start) and until == STAGES[-1] and bring.settled(spec):
        _renew(spec.name, given)
        return
    command = wanted.command("up")
    with locked(spec.name, command), progress(paths.labs() / spec.name / "events.jsonl"):
        spec = sources.chosen(spec, *wanted.sources(source or ()))
        try:
            summary = bring.up(spec, path, until, start, given)
        except RefusedError:
            raise
        except LabError as error:
            if start and not exists(spec.name):  # it would begin from nothing
                command = wanted.command("up", place.hidden(start))
            hint = f"{error.hint}; then {command} continues" if error.hint else f"{command} continues"
            told = cache(lambda: diagnoses.report(spec.name))
            if kept := bundle.after_failure(spec.name, {"diagnosis": lambda: told().members()}):
                hint += f"\n  logs, configuration and states of the lab: {kept}\n{indent(told().text, '  ')}"
            raise LabError(error.message, hint) from error
    if summary.skipped:
        out.print(f"unchanged: {', '.join(summary.skipped)}")
    print_stages(summary.stages)
    print_info(spec.name)


def _renew(name: str, given: Terms) -> None:
    with locked(name, ""):
        lab = Lab.load(name)
        lease.renew(lab, given)
    out.print(f"{name}: owner {terms.told(lab)}")


def down(name: LabName) -> None:
    """Remove a lab without a trace; idempotent, and needs no topology file."""
    from labctl.lab import down as teardown

    with locked(name, f"labctl down {name}"), progress():
        removed = teardown.down(name)
    out.print(f"{name}: removed" if removed else f"{name}: nothing to remove")
