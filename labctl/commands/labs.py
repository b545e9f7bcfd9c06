"""Verbs that look at labs: list, status, verify."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.commands import rows, terms
from labctl.commands.console import Format, listing, out
from labctl.commands.options import LabName, Output
from labctl.errors import BrokenLabError, LabError
from labctl.lab import fault
from labctl.lab.condition import condition
from labctl.lab.titles import describe
from labctl.records import directory
from labctl.records.lab import Lab, locked

if TYPE_CHECKING:
    from labctl.engine.health import Ailment


def list_labs(output: Output = Format.TABLE) -> None:
    """List the labs on this machine."""
    labs = []
    for name in directory.every():
        if words := directory.remnant(name):
            labs.append({"name": name, "machines": words, "try": f"labctl down {name}"})
            continue
        try:
            lab = Lab.load(name)
            journal = lab.journal()
        except LabError:
            labs.append({"name": name, "machines": "unreadable state", "try": f"labctl down {name}"})
            continue
        machines, command = condition(lab)
        labs.append(
            {
                "name": name,
                "release": lab.spec.release,
                "base": lab.spec.base,
                "packages": lab.spec.package_source,
                "driver": lab.spec.driver,
                "machines": machines,
                "stage": journal.stages[-1].name if journal.stages else "-",
                "age": f"{(time.time() - float(lab.meta['created'])) / 60:.0f} min",
                **terms.rows(lab),
                "try": command,
            }
        )
    what = ["release", "base", "packages", "driver"]
    listing(output, labs, ["name", *what, "machines", "stage", "age", "owner", "expires"])
    for row in labs if output is Format.TABLE else ():
        if row["try"]:
            out.print(f"{row['name']}: {row['try']}")


def _checked(lab: Lab) -> tuple[list[Ailment], str]:
    """What is wrong with a lab, and why; only this imports what speaks to nodes."""
    from labctl.diagnose import report
    from labctl.engine import health

    with locked(lab.name, f"labctl status --check {lab.name}"):  # it runs programs on the nodes, as up does
        ailments = health.check(lab)
        return ailments, report.report(lab.name).text if ailments else ""


def status(
    name: LabName,
    check: Annotated[bool, typer.Option("--check", help="run the health check; exit status 1 when it fails")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show a lab's machines and finished stages."""
    lab = Lab.load(name)
    ailments, why = _checked(lab) if check else ([], "")
    machines = []
    for node in lab.spec.nodes.values():
        machine = lab.driver.machine(lab, node.name)
        machines.append(
            {
                "node": node.name,
                "state": machine.state,
                "address": str(lab.spec.address(node)),
                "runs": " ".join(node.runs),
                "detail": machine.detail,
            }
        )
    stages = [vars(s) for s in lab.journal().stages]
    if output is Format.JSON:
        spec = lab.spec
        kind = {
            "lab": name,
            "topology": spec.topology,
            "release": spec.release,
            "base": spec.base,
            "packages": spec.package_source,
            "driver": spec.driver,
            **terms.rows(lab),
        }
        more = {
            "nodes": machines,
            "later": list(lab.spec.later),
            "sources": {project: source.model_dump() for project, source in spec.sources.items()},
            "faults": rows.faults(lab),
            "stages": stages,
        }
        looked = {"ailments": [vars(ailment) for ailment in ailments], "diagnosis": why} if check else {}
        typer.echo(json.dumps({**kind, **more, **looked}, indent=1))
        raise typer.Exit(1 if ailments else 0)
    out.print(f"{name}: {describe(lab.spec)}, driver {lab.spec.driver}\nowner {terms.told(lab)}\n")
    listing(output, machines, ["node", "state", "address", "runs"])
    for row in machines:
        if row["state"] == "stopped" and row["detail"]:
            out.print(f"{row['node']}: {row['detail']}; labctl repair {name}")
    for node_name in lab.spec.later:
        out.print(f"joins later: {node_name}; labctl node add {name} {node_name}")
    for project, source in lab.spec.sources.items():
        out.print(f"source: {project} {source.title} from {source.origin}")
    for one in fault.active(lab):
        out.print(f"fault: {one}; labctl fault heal {name}")
    out.print()
    listing(output, stages, ["name", "seconds", "cpu_seconds", "changed", "ok"])
    if ailments:
        problems = "\n".join(f"  {ailment}" for ailment in ailments)
        raise BrokenLabError(f"{name} is not healthy:\n{problems}\n{why}", f"labctl diagnose {name} --fix")
    if check:
        out.print(f"\n{name} is healthy")


def verify(name: LabName, output: Output = Format.TABLE) -> None:
    """Print the output of the guides' own verification commands from the last `up`."""
    lab = Lab.load(name)
    kept = {path.stem: path.read_text() for path in sorted((lab.directory / "verify").glob("*.txt"))}
    if not kept:
        raise LabError(f"{name} has not been verified yet", lab.up())
    if output is Format.JSON:
        typer.echo(json.dumps([{"check": check, "output": text} for check, text in kept.items()], indent=1))
        return
    for check, text in kept.items():
        out.print(check, style="bold")
        typer.echo(text)
