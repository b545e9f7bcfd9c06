"""How a node's package managers reach their mirrors."""

from __future__ import annotations

from labctl.operations.node import Assign, Command, File, Item
from labctl.secret import names
from labctl.services.base import Context

#: The installers' files for a proxy.
APT, PIP = "/etc/apt/apt.conf.d/80labctl-proxy", "/etc/pip.conf"
FILES = {"yum": "/etc/yum.conf", "dnf": "/etc/dnf/dnf.conf"}


def through(ctx: Context) -> tuple[Item, ...]:
    """The lab's proxy, for its package managers and pip only: daemons and clients of OpenStack never see it.

    Only root reads a password.
    """
    if not (url := ctx.lab.proxy):
        return ()
    source, mode = "topology: options.proxy", "0600" if names(url) else "0644"
    own: tuple[Item, ...]
    if path := FILES.get(ctx.base.installer):
        own = (Assign(path, (("proxy", url),), source, separator="="),)
        if names(url):
            closed = f'[ "$(stat -c %a {path})" = 600 ]'
            own = (Command(f"only root reads {path}", f"chmod {mode} {path}", unless=closed, source=source), *own)
    else:
        text = f'Acquire::http::Proxy "{url}";\nAcquire::https::Proxy "{url}";\n'
        own = (File(APT, text, mode=mode, source=source),)
    return (*own, File(PIP, f"[global]\nproxy = {url}\n", mode=mode, source=source))
