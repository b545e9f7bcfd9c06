"""The verb break: exercises in finding what is wrong."""

from __future__ import annotations

import random
from typing import Annotated

import typer

from labctl.commands.console import Format, listing, out, progress
from labctl.commands.options import Output
from labctl.diagnose.breakages import BREAKAGES, BY_NAME, Breakage
from labctl.errors import LabError
from labctl.host import paths
from labctl.lab import fault
from labctl.progress import step
from labctl.records.lab import Lab, locked
from labctl.topology.problems import unknown

#: Seconds for one exercise to break something.
BREAK = 120


def break_lab(
    name: Annotated[str | None, typer.Argument(metavar="LAB", help="name of the lab")] = None,
    exercises: Annotated[list[str] | None, typer.Argument(metavar="EXERCISE", help="what to break")] = None,
    show: Annotated[bool, typer.Option("--list", help="list the exercises, and break nothing")] = False,
    chance: Annotated[bool, typer.Option("--random", help="let labctl choose one")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31, help="with --random: the same number chooses the same exercise")
    ] = None,
    hide: Annotated[bool, typer.Option("--hide", help="do not say what is broken")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Break a lab in a known way, as an exercise; labctl diagnose finds it, labctl fault heal undoes it."""
    lab = None if name is None else Lab.load(name)
    possible = [b for b in BREAKAGES if lab is None or b.nodes(lab.spec)]
    if show or lab is None:
        rows = [{"exercise": b.name, "breaks": b.component.value, "title": b.title} for b in possible]
        listing(output, rows, ["exercise", "breaks", "title"])
        return
    chosen = [random.Random(seed).choice(possible)] if chance else [_named(word) for word in exercises or ()]
    if not chosen:
        raise LabError(
            "no exercise was named", f"labctl break {lab.name} --list; labctl break {lab.name} --random --hide"
        )
    with locked(lab.name, f"labctl break {lab.name}"), progress(paths.labs() / lab.name / "events.jsonl"):
        for number, exercise in enumerate(chosen):
            _break(lab, exercise, f"exercise {number + 1}" if hide else exercise.title)
    out.print(f"next: labctl diagnose {lab.name}; labctl fault heal {lab.name}", markup=False)


def _named(word: str) -> Breakage:
    if word not in BY_NAME:
        raise LabError(unknown("exercise", word, sorted(BY_NAME)), "labctl break --list")
    return BY_NAME[word]


def _break(lab: Lab, exercise: Breakage, title: str) -> None:
    node = exercise.node(lab.spec)
    fault.exercised(lab, node, exercise.name)
    with step(node, title), lab.connect(node) as session:
        done = session.run(exercise.program(lab.spec), timeout=BREAK * lab.driver.patience)
    if done.status != 0:
        raise LabError(f"{node}: the exercise {exercise.name} broke nothing: {done.stderr.strip()[-300:]}")
