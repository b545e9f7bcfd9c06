"""What services say about upgrades."""

from __future__ import annotations

from labctl.components import Component
from labctl.operations.node import Command
from labctl.services.base import UPGRADE, Context


def migration(ctx: Context, component: Component, project: str) -> tuple[tuple[str, Command], ...]:
    """A project's online data migrations, all of them, on the node of a component."""
    if not ctx.lab.has(component):
        return ()
    run = f'su -s /bin/sh -c "{project}-manage db online_data_migrations" {project}'
    return ((ctx.host(component), Command(f"online data migrations: {project}-manage", run, source=UPGRADE)),)
