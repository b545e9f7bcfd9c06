"""The verb pool: a class's clones of one snapshot."""

from __future__ import annotations

import os
import time
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from labctl.commands import terms
from labctl.commands.console import Format, listing, out, progress
from labctl.commands.options import Output
from labctl.commands.snapshot import changing
from labctl.errors import LabError
from labctl.lab import pool as pools
from labctl.lab.condition import condition
from labctl.records.lab import Lab
from labctl.records.lease import Terms
from labctl.topology.units import show_size

COLUMNS = ["lab", "machines", "memory", "start", "reset", "owner", "expires"]


class Pools(TyperGroup):
    """``labctl pool LAB/SNAPSHOT`` is ``labctl pool create LAB/SNAPSHOT``: no other word of the verb has a slash."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words after the verb."""
        return super().parse_args(ctx, self.completed(args))

    def completed(self, args: list[str]) -> list[str]:
        """The words with ``create``, where it was left out."""
        left_out = any("/" in word for word in args) and args[0] not in self.commands
        return ["create", *args] if left_out else args


group = typer.Typer(cls=Pools, no_args_is_help=True)
PoolName = Annotated[str, typer.Argument(metavar="POOL", help="name of the pool")]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, max=64, help="labs worked on side by side; default: two per core")
]


def _jobs(given: int | None) -> int:
    return given or 2 * (os.cpu_count() or 1)


def split(text: str) -> tuple[str, str]:
    """The names in LAB/SNAPSHOT.

    :raises LabError: it is not such a text.
    """
    lab, slash, snapshot = text.partition("/")
    if not (lab and slash and snapshot):
        raise LabError(f"'{text}' is not a snapshot: write LAB/SNAPSHOT", "labctl list; labctl snapshot list NAME")
    return lab, snapshot


@group.callback()
def pool() -> None:
    """A class's labs: clones of one snapshot, NAME-01, NAME-02 …"""


@group.command()
def create(
    snapshot: Annotated[str, typer.Argument(metavar="LAB/SNAPSHOT", help="what the labs are clones of")],
    size: Annotated[int, typer.Option("--size", min=1, max=pools.LARGEST, help="number of labs; others are removed")],
    name: Annotated[str | None, typer.Option("--name", help="of the pool; default: the name of LAB")] = None,
    ttl: terms.Ttl = None,
    owner: terms.Owner = None,
    jobs: Jobs = None,
    force: Annotated[
        bool, typer.Option("--force", help="even if the nodes' memory in their topology is more than is free")
    ] = False,
) -> None:
    """Make a pool, or bring it to another size; the labs that it has keep what was done in them.

    `create` can be left out: labctl pool LAB/SNAPSHOT --size 20.
    """
    source, named = split(snapshot)
    wanted = pools.Wanted(name or source, size, Terms.given(owner, ttl), _jobs(jobs), force)
    began = time.monotonic()
    with changing(source, f"labctl pool {snapshot} --size {size}") as lab:
        made = pools.make(lab, named, wanted)
    _print(made, Format.TABLE)
    out.print(f"{wanted.name}: {len(made)} labs of {snapshot} in {time.monotonic() - began:.1f} s")


@group.command("list")
def list_pools(
    name: Annotated[str | None, typer.Argument(metavar="[POOL]", help="list its labs; default: all pools")] = None,
    output: Output = Format.TABLE,
) -> None:
    """List the pools, or the labs of one: memory in use, seconds of the last start and reset, owner, lease."""
    if name is not None:
        _print(pools.members(name), output)
        return
    rows = []
    for each, labs in pools.pools().items():
        shown = [_row(lab) for lab in labs]
        used = [row["bytes"] for row in shown if row["bytes"]]
        first = min(shown, key=lambda row: row["expires_at"] or float("inf"))
        rows.append(
            {
                "pool": each,
                "snapshot": shown[0]["snapshot"],
                "labs": len(shown),
                "memory": show_size(sum(used)) if used else "-",
                "owner": ", ".join(dict.fromkeys(row["owner"] for row in shown)),
                "expires": first["expires"],
                "expires_at": first["expires_at"],
                "bytes": sum(used),
            }
        )
    listing(output, rows, ["pool", "snapshot", "labs", "memory", "owner", "expires"])


@group.command()
def reset(
    name: PoolName,
    labs: Annotated[list[str] | None, typer.Argument(metavar="[LAB]...", help="these; default: all")] = None,
    jobs: Jobs = None,
    output: Output = Format.TABLE,
) -> None:
    """Return a pool's labs to the snapshot; what was done in them is lost."""
    began = time.monotonic()
    with progress():
        done = pools.reset(name, labs or (), _jobs(jobs))
    _print(done, output)
    if output is Format.TABLE:
        out.print(f"{name}: {len(done)} labs reset in {time.monotonic() - began:.1f} s")


@group.command()
def down(name: PoolName, jobs: Jobs = None) -> None:
    """Remove all labs of a pool; idempotent."""
    with progress():
        removed = pools.down(name, _jobs(jobs))
    out.print(f"{name}: {len(removed)} labs removed" if removed else f"{name}: nothing to remove")


def _row(lab: Lab) -> dict[str, Any]:
    mine, used = pools.place(lab), pools.memory_of(lab)
    assert mine is not None
    return {
        "lab": lab.name,
        "snapshot": mine.source,
        "machines": condition(lab)[0],
        "memory": show_size(used) if used else "-",
        "start": f"{mine.start:.1f} s" if mine.start else "-",
        "reset": f"{mine.reset:.1f} s" if mine.reset else "-",
        **terms.rows(lab),
        "bytes": used,
        "start_seconds": mine.start,
        "reset_seconds": mine.reset,
    }


def _print(labs: list[Lab], output: Format) -> None:
    listing(output, [_row(lab) for lab in labs], COLUMNS)
