"""How a node's package managers reach their mirrors."""

from __future__ import annotations

from labctl.operations.node import Assign, File, Item
from labctl.services.base import Context

#: The installers' files for a proxy.
APT, PIP = "/etc/apt/apt.conf.d/80labctl-proxy", "/etc/pip.conf"
FILES = {"yum": "/etc/yum.conf", "dnf": "/etc/dnf/dnf.conf"}


def through(ctx: Context) -> tuple[Item, ...]:
    """The lab's proxy, for its package managers and pip only: daemons and clients of OpenStack never see it."""
    if not (url := ctx.lab.proxy):
        return ()
    own: Item
    if ctx.base.installer in FILES:
        own = Assign(FILES[ctx.base.installer], (("proxy", url),), "topology: options.proxy", separator="=")
    else:
        text = f'Acquire::http::Proxy "{url}";\nAcquire::https::Proxy "{url}";\n'
        own = File(APT, text, source="topology: options.proxy")
    return (own, File(PIP, f"[global]\nproxy = {url}\n", source="topology: options.proxy"))
