"""What a node of Red Hat's family needs that no install guide's service chapter says: facts sections 2, 4.1, 8.

Each function answers ``()`` for a base without such facts, so the planner asks it of every node.
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
    """The host's name and its cards."""
    return cards.operations(ctx, node) if ctx.base.redhat else ()


def sources(base: Base, release: Release, vault: str, names: tuple[str, ...]) -> tuple[Item, ...]:
    """Repositories that exist, before the packages ``names`` are installed."""
    if base.redhat is None or release.rdo is None:
        return ()
    return repositories.operations(base, base.redhat, release.rdo, vault, names)


def present_names(release: Release, names: Iterable[str]) -> tuple[str, ...]:
    """Each package once, by the name it has in the release."""
    renamed = release.rdo.renamed if release.rdo else {}
    return tuple(dict.fromkeys(renamed.get(name, name) for name in names))


def protect(ctx: Context, node: NodeSpec) -> tuple[Item, ...]:
    """Cards after a restart, SELinux and the packet filter, before any daemon starts."""
    if ctx.base.redhat is None or ctx.release.rdo is None:
        return ()
    return (
        cards.at_boot(),
        *selinux.operations(ctx, ctx.base.redhat, ctx.release.rdo, node),
        *firewall.operations(ctx, node),
    )


def settle(ctx: Context, node: NodeSpec) -> tuple[Item, ...]:
    """Policy modules for what SELinux has denied the daemons, once they run."""
    return selinux.modules(node) if ctx.base.redhat else ()
