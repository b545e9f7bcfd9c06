"""Verbs that open a lab outside its namespace: forward, console."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.commands.console import Format, listing, out, progress
from labctl.commands.options import LabName, Output
from labctl.errors import LabError
from labctl.host import namespace
from labctl.progress import step
from labctl.records.lab import Lab

if TYPE_CHECKING:
    from labctl.lab.forward import Opening

What = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME[=PORT]]...", help="what to open, and where; default: all, at their own ports"),
]
Row = Mapping[str, Any]


def forward(
    name: LabName,
    what: What = None,
    output: Output = Format.TABLE,
    sockets: Annotated[Path | None, typer.Option(hidden=True, help="for labctl on another machine")] = None,
) -> None:
    """Open a lab's dashboard, consoles and APIs on 127.0.0.1, and a SOCKS proxy into its network, until ^C."""
    import asyncio

    from labctl.host import relay
    from labctl.lab import forward as opening

    lab = Lab.load(name)
    chosen = opening.chosen(lab.spec, what or ())
    with ExitStack() as stack:
        inside = stack.enter_context(namespace.Inside(lab.namespace, lab.hosts_file, relay.THREADS))
        inside.call(int)  # before anything is opened: the namespace is there
        if sockets is not None:
            place = stack.enter_context(relay.directory(sockets, [one.name for one in chosen]))
            listening = {one: relay.listen_at(place / one.name) for one in chosen}
            rows = [{**described(one, 0), "socket": str(place / one.name)} for one in chosen]
        else:
            listening = {one: relay.listen(one.wanted) for one in chosen}
            rows = [described(one, made.getsockname()[1]) for one, made in listening.items()]
        targets = {made: one.target for one, made in listening.items()}
        ready = partial(told, name, rows, output, brief=sockets is not None)
        asyncio.run(relay.serve(inside, targets, ready, partial(_there, lab, namespace.number(lab.namespace))))


def _there(lab: Lab, number: int) -> None:
    """Threads in a namespace keep all of it alive, so they must not outlast the lab.

    :raises LabError: the lab went down.
    """
    if namespace.number(lab.namespace) != number:
        raise LabError(f"the lab {lab.name} went down, and what was forwarded with it", "labctl list")


def described(one: Opening, port: int) -> dict[str, Any]:
    """What is printed of an opening."""
    return {"name": one.name, "link": one.link(port), "port": port, "wanted": one.wanted}


def told(name: str, rows: Sequence[Row], output: Format, brief: bool = False) -> None:
    """Print where everything is; ``brief``: as one line of JSON."""
    if brief or output is Format.JSON:
        sys.stdout.write(json.dumps(rows, indent=None if brief else 1) + "\n")
    else:
        listing(output, rows, ["name", "link"])
        for line in _said(name, {row["name"]: row for row in rows}):
            out.print(line)
    sys.stdout.flush()


def _said(name: str, rows: Mapping[str, Row]) -> list[str]:
    """How to use what is open."""
    lines = [f"{r['name']}: port {r['wanted']} is taken" for r in rows.values() if r["port"] != r["wanted"]]
    if "dashboard" in rows:
        lines.append(f"log in: domain Default, user admin, password: labctl secrets {name} ADMIN_PASS")
    if "novnc" in rows:
        port = rows["novnc"]["port"]
        lines.append(f"a guest's console: labctl console {name} SERVER --port {port}")
    if "socks" in rows:
        socks = rows["socks"]["link"]
        lines.append(f"clients: the variables of labctl env {name}, and ALL_PROXY={socks}")
        lines.append(f"a browser in the lab's network: chromium --proxy-server={socks.replace('socks5h', 'socks5')}")
    return [*lines, "^C ends it"]


def console(
    name: LabName,
    server: Annotated[str, typer.Argument(metavar="SERVER", help="name or id of a server")],
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="the port of novnc in labctl forward")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Print the address of a guest's console in a browser; it is good for ten minutes."""
    from labctl.host import relay
    from labctl.lab import console as consoles
    from labctl.records import access

    lab = Lab.load(name)
    known = access.load(name)
    with progress(), step("lab", f"console of {server}"), namespace.Inside(lab.namespace, lab.hosts_file) as inside:
        found = inside.call(consoles.url, known, server)
    shown = consoles.moved(found, f"{relay.LOOPBACK}:{port}") if port else found
    typer.echo(json.dumps({"server": server, "link": shown}) if output is Format.JSON else shown)
