"""Verbs that hand a lab to other tools: ssh-config, inventory."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from labctl.commands import complete
from labctl.commands.options import LabName
from labctl.lab import login
from labctl.records.lab import Lab


def ssh_config(name: LabName) -> None:
    """Print a configuration of OpenSSH's client for a lab's nodes: ``ssh -F FILE NODE``."""
    typer.echo(login.config(Lab.load(name)), nl=False)


def inventory(
    name: LabName,
    everything: Annotated[bool, typer.Option("--list", help="all groups and hosts, which is the default")] = False,
    node: Annotated[
        str | None, typer.Option("--host", help="only the variables of this node", autocompletion=complete.nodes)
    ] = None,
) -> None:
    """Print a lab as Ansible's dynamic inventory: a group for each component, nova_compute for nova-compute."""
    lab = Lab.load(name)
    shown = login.inventory(lab) if node is None or everything else login.variables(lab, lab.spec.node(node))
    typer.echo(json.dumps(shown, indent=1))
