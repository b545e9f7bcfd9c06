"""What services say about upgrades."""

from __future__ import annotations

from labctl.components import Component
from labctl.services.base import Check, Context


def migration(ctx: Context, component: Component, user: str) -> tuple[Check, ...]:
    """A project's online data migrations, all of them, on the node of a component."""
    if not ctx.lab.has(component):
        return ()
    run = f'su -s /bin/sh -c "{user}-manage db online_data_migrations" {user}'
    return (Check(ctx.host(component), run),)
