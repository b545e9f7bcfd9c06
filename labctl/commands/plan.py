"""The verb plan: what up would do, as a tree or as programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from labctl.commands.console import out
from labctl.commands.options import BaseName, DriverName, ReleaseName, TopologyName
from labctl.errors import LabError
from labctl.secret import hide
from labctl.text.quoting import document
from labctl.topology.spec import LabSpec

if TYPE_CHECKING:
    from labctl.plan.planner import Plan, Stage


def _tree(stage: Stage) -> None:
    from labctl.operations.node import Parallel

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
    from labctl.plan.planner import plan
    from labctl.services.base import Context

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
    from labctl.operations.node import quote
    from labctl.operations.script import program

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
    from labctl.commands.wanted import Wanted
    from labctl.plan.planner import plan
    from labctl.services.base import Context
    from labctl.topology.join import joined

    spec = Wanted(topology, release=release, base=base, driver=driver).draft()
    if script is None:
        print_plan(spec)
        return
    if script in spec.later:
        spec = joined(spec, script)
    if script not in spec.nodes:
        raise LabError(f"{topology} has no node '{script}'; it has {', '.join((*spec.nodes, *spec.later))}")
    typer.echo(_script(plan(Context.of(spec)), script))
