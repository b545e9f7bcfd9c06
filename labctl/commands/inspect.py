"""Read-only verbs: validate, schema, plan, list, status."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from pydantic_core import to_jsonable_python

from labctl import releases
from labctl.commands import complete, terms
from labctl.commands.console import Format, listing, out, progress
from labctl.commands.fault import rows as fault_rows
from labctl.commands.options import BaseName, DriverName, LabName, Output, ReleaseName, TopologyName, Wanted
from labctl.diagnose import report as diagnoses
from labctl.engine import health
from labctl.errors import BrokenLabError, LabError
from labctl.lab import fault, repair
from labctl.lab import up as bring
from labctl.lab.choose import describe
from labctl.operations.node import Parallel, quote
from labctl.operations.script import program
from labctl.plan.planner import Plan, Stage, plan
from labctl.records.lab import Lab, locked
from labctl.secret import hide
from labctl.services.base import Context
from labctl.text.quoting import document
from labctl.topology import schema as topology_schema
from labctl.topology.join import joined
from labctl.topology.spec import LabSpec


def validate(
    topologies: Annotated[
        list[str],
        typer.Argument(metavar="TOPOLOGY", help="names or files", autocompletion=complete.topologies),
    ],
    release: ReleaseName = None,
) -> None:
    """Check topology files; print every problem with file:line:column."""
    for item in topologies:
        with progress():
            topology, path = bring.read(item, release)
        nodes = ", ".join(topology.nodes)
        out.print(f"{path}: valid ({topology.release} on {' or '.join(topology.bases)}; {nodes})")


def schema() -> None:
    """Print the JSON schema of topology files, for editors."""
    typer.echo(json.dumps(topology_schema.schema(), indent=1))


def _tree(stage: Stage) -> None:
    out.print(stage.name, style="bold")
    for part in (stage.nodes, stage.after):
        for node, items in part.items():
            for item in items:
                operations = item.operations if isinstance(item, Parallel) else (item,)
                mark = "∥ " if isinstance(item, Parallel) and len(operations) > 1 else "  "
                for operation in operations:
                    out.print(f"  {node:<12}{mark}{operation.title}")
        if part is stage.nodes:
            for copy in stage.copies:
                out.print(f"  {'(engine)':<12}  {copy.title}")
            for call in stage.api:
                out.print(f"  {'(api)':<12}  {call.title}")


def print_plan(spec: LabSpec) -> None:
    """Print a lab's plan as a tree."""
    made = plan(Context.of(spec))
    out.print("machines", style="bold")
    for node in spec.nodes.values():
        cards = ", ".join(f"{i.name}={i.address or '-'}" for i in node.interfaces)
        out.print(f"  {node.name:<12}  {cards}: {' '.join(node.runs)}")
    for stage in made.stages:
        _tree(stage)
    total = sum(s.operations() for s in made.stages)
    out.print(f"{len(made.stages) + 1} stages, {total} operations")


def _script(made: Plan, node: str) -> str:
    parts = []
    for stage in made.stages:
        for items in (stage.nodes.get(node, ()), stage.after.get(node, ())):
            if items:
                parts.append(f"### stage {stage.name}\n{hide(program(stage.name, tuple(items)))}")
    files = [
        f"### file {f.path} ({f.owner}:{f.group} {f.mode})\ncat >{quote(f.path)} {document(hide(f.content))}"
        for f in {f.path: f for f in made.files(node)}.values()
    ]
    return "\n".join(parts + files)


def show_plan(
    topology: TopologyName,
    script: Annotated[str | None, typer.Option(help="print the programs and files of this node")] = None,
    release: ReleaseName = None,
    base: BaseName = None,
    driver: DriverName = None,
) -> None:
    """Print what `up` would do, and change nothing."""
    spec = Wanted(topology, release=release, base=base, driver=driver).draft()
    if script is None:
        print_plan(spec)
        return
    if script in spec.later:
        spec = joined(spec, script)
    if script not in spec.nodes:
        raise LabError(f"{topology} has no node '{script}'; it has {', '.join((*spec.nodes, *spec.later))}")
    typer.echo(_script(plan(Context.of(spec)), script))


def list_labs(output: Output = Format.TABLE) -> None:
    """List the labs on this machine."""
    rows = []
    for name in repair.recorded():
        if words := repair.remnant(name):
            rows.append({"name": name, "machines": words, "try": f"labctl down {name}"})
            continue
        try:
            lab = Lab.load(name)
            journal = lab.journal()
        except LabError:
            rows.append({"name": name, "machines": "unreadable state", "try": f"labctl down {name}"})
            continue
        machines, command = repair.condition(lab)
        rows.append(
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
    listing(output, rows, ["name", *what, "machines", "stage", "age", "owner", "expires"])
    for row in rows if output is Format.TABLE else ():
        if row["try"]:
            out.print(f"{row['name']}: {row['try']}")


def status(
    name: LabName,
    check: Annotated[bool, typer.Option("--check", help="run the health check; exit status 1 when it fails")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show a lab's machines and finished stages."""
    lab = Lab.load(name)
    ailments: list[health.Ailment] = []
    why = ""
    if check:
        with locked(name, f"labctl status --check {name}"):  # it runs programs on the nodes, as up does
            if ailments := health.check(lab):
                why = diagnoses.report(name).text
    rows = []
    for node in lab.spec.nodes.values():
        machine = lab.driver.machine(lab, node.name)
        rows.append(
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
            "nodes": rows,
            "later": list(lab.spec.later),
            "sources": {project: source.model_dump() for project, source in spec.sources.items()},
            "faults": fault_rows(lab),
            "stages": stages,
        }
        looked = {"ailments": [vars(ailment) for ailment in ailments], "diagnosis": why} if check else {}
        typer.echo(json.dumps({**kind, **more, **looked}, indent=1))
        raise typer.Exit(1 if ailments else 0)
    out.print(f"{name}: {describe(lab.spec)}, driver {lab.spec.driver}\nowner {terms.told(lab)}\n")
    listing(output, rows, ["node", "state", "address", "runs"])
    for row in rows:
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


def list_releases(
    diff: Annotated[
        tuple[str, str] | None, typer.Option(metavar="A B", help="compare these two: print only what differs")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Print the facts of every release that has a recipe."""
    chosen = [releases.get(name) for name in diff] if diff else list(releases.RELEASES.values())
    rows = [to_jsonable_python(r) for r in chosen]
    if output is Format.JSON and not diff:
        listing(output, rows, [])
        return
    by_release = {row.pop("name"): dict(_leaves(row)) for row in rows}
    keys = list(dict.fromkeys(key for leaves in by_release.values() for key in leaves))
    # in field order, whichever release has a fact first
    keys.sort(key=lambda key: list(rows[0]).index(key.split(" ")[0]))
    facts = [{"fact": key, **{name: leaves.get(key, "-") for name, leaves in by_release.items()}} for key in keys]
    if diff:
        one, other = by_release
        facts = [fact for fact in facts if fact[one] != fact[other]]
    listing(output, facts, ["fact", *by_release])


def _leaves(value: Any, *names: str) -> Iterator[tuple[str, str]]:
    """The leaves of a tree of facts, each with its path."""
    match value:
        case dict():
            for key, below in value.items():
                yield from _leaves(below, *names, key)
        case list():
            yield " ".join(names), ", ".join(map(str, value))
        case bool():
            yield " ".join(names), "yes" if value else "no"
        case _ if value is not None:
            yield " ".join(names), str(value)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(validate)
    app.command()(schema)
    app.command("plan")(show_plan)
    app.command("list")(list_labs)
    app.command()(status)
    app.command()(verify)
    app.command("releases")(list_releases)
