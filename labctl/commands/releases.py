"""The verb releases: the facts of every release."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from pydantic_core import to_jsonable_python

from labctl import releases
from labctl.commands.console import Format, listing
from labctl.commands.options import Output


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
