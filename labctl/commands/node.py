"""Verbs for the nodes of a running lab: node add, node remove, node list."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from typing import Annotated

import typer

from labctl.commands.console import Format, listing, out, progress
from labctl.commands.options import LabName, NodeName, Output
from labctl.errors import LabError
from labctl.host import paths
from labctl.records.lab import locked

group = typer.Typer(no_args_is_help=True)


def _addresses(words: list[str]) -> dict[str, IPv4Address]:
    made: dict[str, IPv4Address] = {}
    for word in words:
        network, _, address = word.partition("=")
        try:
            made[network] = IPv4Address(address)
        except AddressValueError as error:
            raise LabError(f"--address {word} is not NETWORK=ADDRESS", "--address management=10.0.0.32") from error
    return made


@group.callback()
def node() -> None:
    """Add nodes to a running lab, and remove them."""


@group.command()
def add(
    name: LabName,
    node_name: NodeName,
    like: Annotated[str | None, typer.Option(metavar="NODE", help="copy this node of the lab")] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(metavar="NETWORK=ADDRESS", help="address of a copy; default: the next free one of each network"),
    ] = None,
) -> None:
    """Add a node to a running lab: one that joins later in its topology, or a copy of another."""
    from labctl.commands.info import print_stages
    from labctl.lab import nodes

    if address and not like:
        raise LabError(
            "--address needs --like: the topology sets the addresses of its own nodes",
            f"--like NODE copies one into {name}",
        )
    with locked(name, f"labctl node add {name} {node_name}"), progress(paths.labs() / name / "events.jsonl"):
        summary = nodes.add(name, node_name, like=like, addresses=_addresses(address or []))
    print_stages(summary.stages)
    out.print(f"{name}: {node_name} has joined; labctl ssh {name} {node_name}; labctl node remove {name} {node_name}")


@group.command()
def remove(name: LabName, node_name: NodeName) -> None:
    """Remove a joined node from a lab, unless it holds servers or volumes."""
    from labctl.commands.info import print_stages
    from labctl.lab import nodes

    with locked(name, f"labctl node remove {name} {node_name}"), progress(paths.labs() / name / "events.jsonl"):
        summary = nodes.remove(name, node_name)
    print_stages(summary.stages)
    out.print(f"{name}: {node_name} has left")


@group.command("list")
def list_nodes(name: LabName, output: Output = Format.TABLE) -> None:
    """List a lab's nodes, including those that join later, and how each joined."""
    from labctl.lab import nodes

    listing(output, nodes.rows(name), ["node", "state", "address", "joined", "runs"])
