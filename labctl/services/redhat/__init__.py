"""What a node of Red Hat's family needs beyond the install guides' service chapters: facts sections 2, 4.1, 8.

Each function returns ``()`` for a base without such facts, so the planner can call it for every node.
"""

from __future__ import annotations

from collections.abc import Iterable

from labctl.bases.model import Base
from labctl.operations.node import Item
from labctl.releases.model import Release
from labctl.services.base import Context
from labctl.services.redhat import cards, firewall, repositories, selinux
from labctl.topology.spec import NodeSpec


def prepare(ctx: Context, node: NodeSpec) -> tuple[Item, ...]:
    """The host name and the interfaces."""
    return cards.operations(ctx, node) if ctx.base.redhat else ()


def sources(base: Base, release: Release, vault: str, names: tuple[str, ...], proxy: str = "") -> tuple[Item, ...]:
    """Working repositories, before the packages ``names`` are installed."""
    if base.redhat is None or release.rdo is None:
        return ()
    return repositories.operations(base, base.redhat, release.rdo, vault, names, proxy)


def present_names(release: Release, names: Iterable[str]) -> tuple[str, ...]:
    """Each package once, by the name it has in the release."""
    renamed = release.rdo.renamed if release.rdo else {}
    return tuple(dict.fromkeys(renamed.get(name, name) for name in names))


def protect(ctx: Context, node: NodeSpec) -> tuple[Item, ...]:
    """Interfaces after a reboot, SELinux and the firewall, before any daemon starts."""
    if ctx.base.redhat is None or ctx.release.rdo is None:
        return ()
    return (
        cards.at_boot(),
        *selinux.operations(ctx, ctx.base.redhat, ctx.release.rdo, node),
        *firewall.operations(ctx, node),
    )


def settle(ctx: Context, node: NodeSpec) -> tuple[Item, ...]:
    """Policy modules for what SELinux has denied the running daemons."""
    return selinux.modules(node) if ctx.base.redhat else ()
